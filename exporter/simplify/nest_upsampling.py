"""Sums of maps of several sizes, added where they are small."""

from __future__ import annotations

from itertools import pairwise

from exporter.ir.graph import Graph, Node, Value
from exporter.simplify.sums import is_sum, outer_sum, terms


def nest_upsampling(graph: Graph) -> None:
    """`x + up4(a) + up2(b) -> x + up2(b + up2(a))` for nearest upsampling by whole factors, in whatever order.

    Lite-HRNet's fusion sums up to three coarser branches: one upsampling and one addition at full size are left of
    three. Pixels are copied before or after an addition, so each result is the same sum, in another order.
    Declines: one upsampled term alone, terms or partial sums that somebody else reads, sizes that do not divide.
    """
    for node in list(graph.nodes):
        if node in graph.nodes and is_sum(node) and outer_sum(graph, node) is None:
            parts = terms(graph, node)
            ups = [t for t in parts if _is_upsampled(graph, t)]
            sources = sorted((_source(t) for t in ups), key=lambda source: source.numel)
            if 1 < len(ups) < len(parts) and _divide([*(s.shape for s in sources), node.output.shape]):
                _rewrite(graph, node, [t for t in parts if t not in ups], sources)


def _is_upsampled(graph: Graph, value: Value) -> bool:
    resize = value.producer
    if resize is None or resize.op.name != "resize_nearest" or graph.only_consumer(value) is None:
        return False
    return len(value.uses) == 1


def _source(upsampled: Value) -> Value:
    assert upsampled.producer is not None
    return upsampled.producer.inputs[0]


def _divide(shapes: list[tuple[int, ...]]) -> bool:
    """Whether each map can be enlarged to the next by whole factors."""
    return all(
        small[:2] == large[:2] and large[2] % small[2] == 0 and large[3] % small[3] == 0
        for small, large in pairwise(shapes)
    )


def _rewrite(graph: Graph, root: Node, plain: list[Value], sources: list[Value]) -> None:
    def add(a: Value, b: Value, activation: str = "none") -> Value:
        return graph.emit("add", [a, b], source=root.source, at=root, activation=activation)

    def enlarge(x: Value, like: Value) -> Value:
        if x.shape == like.shape:
            return x
        return graph.emit("resize_nearest", [x], source=root.source, at=root, size=like.shape[2:])

    total = plain[0]
    for term in plain[1:]:
        total = add(total, term)
    nested = sources[0]
    for source in sources[1:]:
        nested = add(source, enlarge(nested, source))
    graph.replace_all_uses(root.output, add(total, enlarge(nested, root.output), root.attrs["activation"]))
    graph.prune()
