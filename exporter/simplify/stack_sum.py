"""BiFPN's `stack([...], -1).sum(-1)` without rank 5."""

from __future__ import annotations

from exporter.ir.graph import Graph, Node, Value


def stack_sum_to_adds(graph: Graph) -> None:
    """`mul(mean(concat(unsqueeze(a), unsqueeze(b), ...), dim), count) -> add(add(a, b), ...)`.

    capture writes `sum` as mean times count, and `stack` as reshapes and a concat on a new dim. A weight multiplied
    in after the stack is a constant with one element per slice: `stack(xs) * w` becomes `x_i * w_i` first.
    Declines: slices thicker than one, reductions over more dims.
    """
    for node in [n for n in graph.nodes if n.op.name == "mean"]:
        if len(node.attrs["dims"]) != 1 or node.attrs["keepdim"]:
            continue
        (dim,) = node.attrs["dims"]
        parts = _slices(graph, node.inputs[0], dim, node)
        scale = graph.only_consumer(node.output)
        if parts is None or scale is None or _count(scale, node.output) != len(parts):
            continue
        total = parts[0]
        for part in parts[1:]:
            total = graph.emit("add", [total, part], source=node.source, at=node, activation="none")
        graph.replace_all_uses(scale.output, total)
        graph.remove(scale)
        graph.prune()


def _slices(graph: Graph, stacked: Value, dim: int, before: Node) -> list[Value] | None:
    """The tensors under a stack on `dim`, each times its weight when the stack was multiplied by one."""
    producer = stacked.producer
    if producer is None:
        return None
    if producer.op.name == "mul":
        x, w = producer.inputs if producer.inputs[1].const is not None else producer.inputs[::-1]
        parts = _slices(graph, x, dim, before)
        if parts is None or w.const is None or w.numel not in (1, len(parts)) or w.const.dim() > len(stacked.shape):
            return None
        place = dim - len(stacked.shape)  # from the end, as operands broadcast
        if w.numel > 1 and (w.const.dim() < -place or w.shape[place] != w.numel):
            return None
        weights = w.const.reshape(-1).expand(len(parts))
        return [
            graph.emit(
                "mul", [p, graph.constant(f"{w.name}/{i}", weights[i].clone())],
                source=producer.source, at=before, activation="none",
            )
            for i, p in enumerate(parts)
        ]  # fmt: skip
    if producer.op.name != "concat" or producer.attrs["dim"] != dim:
        return None
    parts = []
    for value in producer.inputs:
        reshape = value.producer
        if reshape is None or reshape.op.name != "reshape" or value.shape[dim] != 1:
            return None
        source = reshape.inputs[0]
        if source.shape != value.shape[:dim] + value.shape[dim + 1 :]:
            return None
        parts.append(source)
    return parts


def _count(node: Node, x: Value) -> float | None:
    """c when `node` is `x * c` with a scalar constant c."""
    if node.op.name != "mul" or node.output.shape != x.shape:  # a [1, ..., 1] constant may raise the rank
        return None
    other = node.inputs[1] if node.inputs[0] is x else node.inputs[0]
    return float(other.const.item()) if other.const is not None and other.numel == 1 else None
