"""Transposes and copies that the op behind them does by itself."""

from __future__ import annotations

import math

from exporter.ir.graph import Graph, Node, Value

BROADCASTING = frozenset({"add", "sub", "mul", "div"})


def transpose_right(graph: Graph) -> None:
    """`matmul(a, transpose(b)) -> matmul(a, b, transpose_b)` where the transpose swaps the last two dims."""
    for node in [n for n in graph.nodes if n.op.name == "matmul"]:
        swap, rank = node.inputs[1].producer, len(node.inputs[1].shape)
        swapped = (*range(rank - 2), rank - 1, rank - 2)
        if swap is not None and swap.op.name == "transpose" and swap.attrs["perm"] == swapped:
            graph.set_input(node, 1, swap.inputs[0])
            node.attrs["transpose_b"] = not node.attrs["transpose_b"]


def drop_copies(graph: Graph) -> None:
    """`add(a, concat(x, x, ...)) -> add(a, x)`, so too for sub, mul, div, where x broadcasts to the same result."""
    for node in [n for n in graph.nodes if n.op.name in BROADCASTING]:
        for index in (0, 1):
            while (source := _copied(node.inputs[index])) is not None:
                other = node.inputs[1 - index]
                if _broadcast(source, other) != node.output.shape:
                    break
                graph.set_input(node, index, source)


def _copied(value: Value) -> Value | None:
    """x when `value` is a concat of x with itself along a dim of one."""
    node: Node | None = value.producer
    if node is None or node.op.name != "concat" or len(set(map(id, node.inputs))) > 1:
        return None
    return node.inputs[0] if node.inputs[0].shape[node.attrs["dim"]] == 1 else None


def _broadcast(a: Value, b: Value) -> tuple[int, ...]:
    rank = max(len(a.shape), len(b.shape))
    padded = [(1,) * (rank - len(v.shape)) + v.shape for v in (a, b)]
    return tuple(math.prod(set(pair) - {1}) for pair in zip(*padded, strict=True))
