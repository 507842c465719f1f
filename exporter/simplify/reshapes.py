"""Fewer reshapes and transposes, at the lowest rank."""

from __future__ import annotations

import math

from exporter.ir.graph import Graph, Node, Value


def merge_reshapes(graph: Graph) -> None:
    """Cases:

    1. `reshape(reshape(x)) -> reshape(x)`, `transpose(transpose(x)) -> transpose(x)`
    2. a transpose between reshapes moves whole runs of dims: each run becomes one dim, so a channel shuffle
       (view, permute, view on rank 5) stays within rank 4 (DESIGN.md §3, trap 5)
    3. a transpose that only moves dims of size 1 is a reshape
    4. map to tokens, `transpose(reshape(x, [N, C, HW]), (0, 2, 1)) -> reshape(transpose(x, (0, 2, 3, 1)), [N, HW, C])`,
       and the way back: where maps are stored channels-last, these transposes cost nothing
    """
    _join_reshapes(graph)
    for node in list(graph.nodes):
        if node not in graph.nodes:
            continue
        producer = node.inputs[0].producer
        if _map_to_tokens(graph, node) or _tokens_to_map(graph, node):
            pass
        elif node.op.name == "transpose" and producer is not None and producer.op.name == "transpose":
            perm = tuple(producer.attrs["perm"][d] for d in node.attrs["perm"])
            _replace(graph, node, graph.emit("transpose", producer.inputs, source=node.source, at=node, perm=perm))
        elif node.op.name == "transpose" and producer is not None and producer.op.name == "reshape":
            _lower_rank(graph, node)
    graph.prune()
    for node in [n for n in graph.nodes if n.op.name == "transpose"]:
        moved = [d for d in node.attrs["perm"] if node.inputs[0].shape[d] != 1]
        if moved == sorted(moved):
            shape = node.output.shape
            _replace(graph, node, graph.emit("reshape", node.inputs, source=node.source, at=node, shape=shape))
    _join_reshapes(graph)


def _join_reshapes(graph: Graph) -> None:
    """Case 1 of reshapes."""
    for node in graph.nodes:
        producer = node.inputs[0].producer
        if node.op.name == "reshape" and producer is not None and producer.op.name == "reshape":
            graph.set_input(node, 0, producer.inputs[0])
    graph.prune()


def _lower_rank(graph: Graph, node: Node) -> None:
    """Case 2: merge dims that stay neighbours (those of size 1 aside), when every reader reshapes the result anyway."""
    readers = graph.consumers(node.output)
    if node.output in graph.outputs or any(reader.op.name != "reshape" for reader in readers):
        return
    perm, shape = node.attrs["perm"], node.inputs[0].shape
    kept = [dim for dim in range(len(perm)) if shape[dim] != 1]
    runs: list[list[int]] = []
    for dim in (dim for dim in perm if dim in kept):
        if runs and kept.index(runs[-1][-1]) + 1 == kept.index(dim):
            runs[-1].append(dim)
        else:
            runs.append([dim])
    if len(runs) == len(perm):
        return
    order = sorted(range(len(runs)), key=lambda i: runs[i][0])
    merged = tuple(math.prod(shape[d] for d in runs[i]) for i in order)
    low = graph.emit("reshape", node.inputs, source=node.source, at=node, shape=merged)
    new_perm = tuple(order.index(i) for i in range(len(runs)))
    moved = graph.emit("transpose", [low], source=node.source, at=node, perm=new_perm)
    _replace(graph, node, moved)
    producer = low.producer
    assert producer is not None
    inner = producer.inputs[0].producer
    if inner is not None and inner.op.name == "reshape":
        graph.set_input(producer, 0, inner.inputs[0])


def _map_to_tokens(graph: Graph, node: Node) -> bool:
    """Case 4. Declines where the map is itself the result of a reshape (stored in PyTorch's order anyway)."""
    flat = node.inputs[0]
    if node.op.name != "transpose" or node.attrs["perm"] != (0, 2, 1) or graph.only_consumer(flat) is None:
        return False
    if flat.producer is None or flat.producer.op.name != "reshape":
        return False
    image = flat.producer.inputs[0]
    if len(image.shape) != 4 or image.shape[:2] != flat.shape[:2] or _made_by(image, "reshape"):
        return False
    last = graph.emit("transpose", [image], source=node.source, at=node, perm=(0, 2, 3, 1))
    _replace(graph, node, graph.emit("reshape", [last], source=node.source, at=node, shape=node.output.shape))
    return True


def _tokens_to_map(graph: Graph, node: Node) -> bool:
    """Case 4 backwards. Declines where the map is reshaped again."""
    flat, image = node.inputs[0], node.outputs[0]
    if node.op.name != "reshape" or not _made_by(flat, "transpose") or graph.only_consumer(flat) is None:
        return False
    assert flat.producer is not None
    if flat.producer.attrs["perm"] != (0, 2, 1) or len(image.shape) != 4 or image.shape[:2] != flat.shape[:2]:
        return False
    if any(reader.op.name == "reshape" for reader in image.uses):
        return False
    batch, channels, height, width = image.shape
    last = graph.emit(
        "reshape", flat.producer.inputs, source=node.source, at=node, shape=(batch, height, width, channels)
    )
    _replace(graph, node, graph.emit("transpose", [last], source=node.source, at=node, perm=(0, 3, 1, 2)))
    return True


def _made_by(value: Value, op: str) -> bool:
    return value.producer is not None and value.producer.op.name == op


def _replace(graph: Graph, node: Node, new: Value) -> None:
    graph.replace_all_uses(node.output, new)
    graph.remove(node)
