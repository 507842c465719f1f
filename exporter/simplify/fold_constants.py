"""Evaluate nodes whose operands are all constants."""

from __future__ import annotations

import torch

from exporter.ir.graph import Graph
from exporter.ir.run import step


@torch.no_grad()
def fold_constants(graph: Graph) -> None:
    """`op(const, const) -> const`. Exact: the op's own torch meaning computes it."""
    for node in list(graph.nodes):
        if all(value.const is not None for value in node.inputs):
            results = step(node, [value.const for value in node.inputs if value.const is not None])
            for value, result in zip(node.outputs, results, strict=True):
                graph.replace_all_uses(value, graph.constant(value.name, result))
            graph.remove(node)
