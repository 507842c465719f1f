"""What passes over sums share: the terms of a chain of adds."""

from __future__ import annotations

from exporter.ir.graph import Graph, Node, Value


def is_sum(node: Node) -> bool:
    """An add of two activations."""
    return node.op.name == "add" and all(v.const is None for v in node.inputs)


def outer_sum(graph: Graph, node: Node) -> Node | None:
    """The sum that the sum `node` is a part of: its only reader, of the same shape."""
    reader = graph.only_consumer(node.output)
    if reader is None or not is_sum(reader) or reader.output.shape != node.output.shape:
        return None
    return reader if node.attrs["activation"] == "none" and len(node.output.uses) == 1 else None


def terms(graph: Graph, node: Node) -> list[Value]:
    """What the sum `node` and its parts add up, in order."""
    result: list[Value] = []
    for value in node.inputs:
        inner = value.producer
        is_part = inner is not None and is_sum(inner) and outer_sum(graph, inner) is node
        result += terms(graph, inner) if is_part and inner is not None else [value]
    return result
