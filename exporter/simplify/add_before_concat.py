"""A constant that is added to a joined tensor is added to its parts."""

from __future__ import annotations

import torch

from exporter.ir.graph import Graph, Node, Value


@torch.no_grad()
def add_before_concat(graph: Graph) -> None:
    """`concat(token, x) + position -> concat(token + position[0], x + position[1:])`, where a part is a constant.

    The class token of a vision transformer becomes one constant, and its int8 range meets that of the patches after the
    positions are added, not before. Declines: no constant part, other readers of the concat.
    """
    for node in [n for n in graph.nodes if n.op.name == "add" and n.attrs["activation"] == "none"]:
        joined, position = node.inputs if node.inputs[1].const is not None else node.inputs[::-1]
        join = joined.producer
        if position.const is None or join is None or join.op.name != "concat" or joined.shape != node.output.shape:
            continue
        if graph.only_consumer(joined) is None or all(part.const is None for part in join.inputs):
            continue
        full = position.const.expand(joined.shape) if position.numel > 1 else position.const
        parts, start, dim = [], 0, join.attrs["dim"]
        for part in join.inputs:
            shift = full.narrow(dim, start, part.shape[dim]) if position.numel > 1 else full
            parts.append(_sum(graph, part, graph.constant(f"{position.name}/{start}", shift.contiguous()), node))
            start += part.shape[dim]
        result = graph.emit("concat", parts, source=join.source, at=node, dim=dim)
        graph.replace_all_uses(node.output, result)
        graph.remove(node)


def _sum(graph: Graph, part: Value, shift: Value, node: Node) -> Value:
    if part.const is None:
        return graph.emit("add", [part, shift], source=node.source, at=node, activation="none")
    assert shift.const is not None
    return graph.constant(part.name, part.const + shift.const)
