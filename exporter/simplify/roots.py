"""Divisions by a root, which have an integer form once they are products."""

from __future__ import annotations

import math

import torch

from exporter.ir.graph import Graph, Node, Value

MOST_EPS = 1e-3
"""Beyond, what is divided by the bound in place of its own length is signal."""


def divide_by_roots(graph: Graph) -> None:
    """`x / sqrt(s) -> x * rsqrt(s)`, and as in F.normalize `x / max(sqrt(s), eps) -> x * rsqrt(s + eps²)`.

    The second form differs from the first where s is about eps², which says that nothing is there to normalise; int8
    has no division at all. Between root and division may stand reshapes and positive factors. The root is written
    anew, so that other readers keep theirs.
    Declines: a bound above 1e-3, or two of them.
    """
    for node in [n for n in graph.nodes if n.op.name == "div"]:
        factor = _Inverse(graph, node).of(node.inputs[1])
        if factor is not None:
            product = graph.emit("mul", [node.inputs[0], factor], source=node.source, at=node, **node.attrs)
            graph.replace_all_uses(node.output, product)


class _Inverse:
    """Writes 1 / divisor ahead of a division."""

    def __init__(self, graph: Graph, node: Node) -> None:
        self._graph, self._node = graph, node

    def of(self, divisor: Value, eps: float = 0.0) -> Value | None:
        """1 / max(divisor, eps) where the divisor is made of a root; None elsewhere."""
        if (root := _made(divisor, "sqrt")) is not None:
            square = root.inputs[0]
            return self._emit("rsqrt", self._emit("add", square, self._number(eps * eps)) if eps else square)
        if (moved := _made(divisor, "reshape")) is not None:
            inside = self.of(moved.inputs[0], eps)
            return inside and self._graph.emit(
                "reshape", [inside], source=self._node.source, at=self._node, **moved.attrs
            )
        if (scaled := _made(divisor, "mul")) is not None and (factor := _number(scaled.inputs[1])) > 0:
            inside = self.of(scaled.inputs[0], eps / factor)
            return inside and self._emit("mul", inside, self._number(1 / factor))
        bounded = None if eps else _bounded(divisor)
        return self.of(*bounded) if bounded else None

    def _emit(self, op: str, *operands: Value) -> Value:
        attrs = {} if op == "rsqrt" else {"activation": "none"}
        return self._graph.emit(op, operands, source=self._node.source, at=self._node, **attrs)

    def _number(self, number: float) -> Value:
        return self._graph.constant(f"{self._node.output.name}/const", torch.tensor(number))


def _bounded(value: Value) -> tuple[Value, float] | None:
    """What has a lower bound, and that bound, as capture writes it: relu(x - eps) + eps."""
    raised = _made(value, "add")
    clamped = _made(raised.inputs[0], "relu") if raised else None
    lowered = _made(clamped.inputs[0], "sub") if clamped else None
    if raised is None or lowered is None:
        return None
    eps = _number(raised.inputs[1])
    return (lowered.inputs[0], eps) if eps == _number(lowered.inputs[1]) and 0 < eps <= MOST_EPS else None


def _made(value: Value, op: str) -> Node | None:
    """What computed `value`, when it is that op without an activation of its own."""
    node = value.producer
    return node if node and node.op.name == op and node.attrs.get("activation", "none") == "none" else None


def _number(value: Value) -> float:
    return float(value.const) if value.const is not None and value.numel == 1 else math.nan
