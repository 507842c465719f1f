"""Evaluate nodes whose operands are all constants."""

from __future__ import annotations

import torch

from exporter.ir.graph import Graph


@torch.no_grad()
def fold_constants(graph: Graph) -> None:
    """`op(const, const) -> const`. Exact: the op's own torch meaning computes it."""
    for node in list(graph.nodes):
        if all(value.const is not None for value in node.inputs):
            result = node.op.run(*(value.const for value in node.inputs), **node.attrs)
            graph.replace_all_uses(node.output, graph.constant(node.output.name, result))
            graph.remove(node)
