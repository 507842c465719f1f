"""Feature maps that are flattened and joined stay in the order in which they are stored."""

from __future__ import annotations

from exporter.ir.graph import Graph, Node, Value
from exporter.ir.ops import Layout

SWAP = (0, 2, 1)
POSITIONED = frozenset({"dim", "dims", "before", "after", "perm", "shape"})
"""Attributes that name axes: an op without them treats all axes alike."""
TWO_OPERANDS = frozenset({"add", "sub", "mul", "div", "maximum"})


def join_tokens(graph: Graph) -> None:
    """A detector's levels: `concat([reshape(x, [N,C,HW]), …], 2) -> transpose(concat([tokens(x), …], 1))`, with
    tokens [N,HW,C], which are the map as it is stored. One transpose is left of one for each level.

    It then moves down, `f(transpose(x)) -> transpose(f(x))`, as long as all that read it are element by element,
    slices, softmaxes or concats of others like it, and disappears where the model itself wants tokens.
    Declines: maps that are results of reshapes.
    """
    for node in [n for n in graph.nodes if n.op.name == "concat" and n.attrs["dim"] == 2]:
        if len(node.output.shape) == 3 and all(_is_flat_map(graph, value) for value in node.inputs):
            _rewrite(graph, node)
    graph.prune()


def _is_flat_map(graph: Graph, flat: Value) -> bool:
    if flat.producer is None or flat.producer.op.name != "reshape" or graph.only_consumer(flat) is None:
        return False
    image = flat.producer.inputs[0]
    made = image.producer
    return len(image.shape) == 4 and image.shape[:2] == flat.shape[:2] and not (made and made.op.name == "reshape")


def _rewrite(graph: Graph, node: Node) -> None:
    tokens = []
    for flat in node.inputs:
        assert flat.producer is not None
        image, source = flat.producer.inputs[0], flat.producer.source
        last = graph.emit("transpose", [image], source=source, at=node, perm=(0, 2, 3, 1))
        batch, channels, pixels = flat.shape
        tokens.append(graph.emit("reshape", [last], source=source, at=node, shape=(batch, pixels, channels)))
    joined = graph.emit("concat", tokens, source=node.source, at=node, dim=1)
    swapped = graph.emit("transpose", [joined], source=node.source, at=node, perm=SWAP)
    graph.replace_all_uses(node.output, swapped)
    graph.remove(node)
    _move_down(graph, swapped)


def _move_down(graph: Graph, swapped: Value) -> None:
    readers = graph.consumers(swapped)
    if swapped in graph.outputs or not readers or not all(_lets_pass(reader) for reader in readers):
        return
    for reader in readers:
        if reader not in graph.nodes:
            continue
        if reader.op.name == "transpose":
            graph.replace_all_uses(reader.output, _unswapped(graph, reader.inputs[0]))
            graph.remove(reader)
            continue
        attrs = dict(reader.attrs)
        if "dim" in attrs:
            attrs["dim"] = SWAP[attrs["dim"]]
        operands = [_unswapped(graph, value) for value in reader.inputs]
        moved = graph.emit(reader.op.name, operands, source=reader.source, at=reader, **attrs)
        after = graph.emit("transpose", [moved], source=reader.source, at=reader, perm=SWAP)
        graph.replace_all_uses(reader.output, after)
        graph.remove(reader)
        moved.name, reader.output.name = reader.output.name, moved.name
        _move_down(graph, after)


def _lets_pass(node: Node) -> bool:
    """Whether the node computes the same on operands with their last two axes exchanged."""
    if node.op.name == "transpose":
        return bool(node.attrs["perm"] == SWAP)
    if node.op.name in ("slice", "softmax", "concat") or node.op.name in TWO_OPERANDS:
        return all(_is_swapped(value) for value in node.inputs)
    return node.op.layout is Layout.TRANSPARENT and len(node.inputs) == 1 and not POSITIONED & set(node.attrs)


def _is_swapped(value: Value) -> bool:
    if value.const is not None:
        return len(value.shape) <= 3
    return value.producer is not None and value.producer.op.name == "transpose" and value.producer.attrs["perm"] == SWAP


def _unswapped(graph: Graph, value: Value) -> Value:
    """The value with its last two axes exchanged: what the transpose reads, or a constant."""
    if value.const is None:
        assert value.producer is not None
        return value.producer.inputs[0]
    if len(value.shape) < 2 and value.numel == 1:
        return value
    rank_2 = value.const.reshape((1,) * max(2 - len(value.shape), 0) + value.shape)
    return graph.constant(value.name, rank_2.mT.contiguous())
