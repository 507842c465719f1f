"""A value added to itself."""

from __future__ import annotations

import torch

from exporter.ir.graph import Graph


def double_sums(graph: Graph) -> None:
    """`x + x -> 2 * x`: a factor can move and fold into weights. Exact, in float and in int8."""
    for node in [n for n in graph.nodes if n.op.name == "add"]:
        a, b = node.inputs
        if a is b:
            two = graph.constant(f"{node.output.name}/two", torch.tensor(2.0))
            doubled = graph.emit("mul", [a, two], source=node.source, at=node, **node.attrs)
            graph.replace_all_uses(node.output, doubled)
            graph.remove(node)
