"""fold_constants: nodes whose operands are all constants become constants."""

from __future__ import annotations

import torch
from rewriting import ops, rewrite
from torch import nn

from exporter.ir.check import check
from exporter.ir.graph import Graph
from exporter.simplify.fold_constants import fold_constants


def test_chains_of_constants_are_evaluated():
    graph = Graph("g")
    x = graph.add_input("x", (1, 3))
    weights = graph.constant("w", torch.tensor([1.0, -2.0, 3.0]))
    total = graph.emit("mean", [graph.emit("relu", [weights])], dims=(0,), keepdim=True)
    y = graph.emit("mul", [x, graph.emit("div", [weights, total], activation="none")], activation="none")
    graph.set_outputs({"y": y})
    fold_constants(graph)
    check(graph)
    assert ops(graph) == ["mul"]
    assert torch.allclose(graph.nodes[0].inputs[1].const, torch.tensor([0.75, -1.5, 2.25]))


def test_what_depends_on_the_input_stays():
    graph = rewrite(lambda x: torch.relu(x) * 2.0, torch.ones(1, 3), by=[fold_constants])
    assert ops(graph) == ["relu", "mul"]


def test_parameters_alone_are_constants_already_when_captured():
    class Weighted(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))

        def forward(self, x):
            w = torch.relu(self.w)
            return x * (w[2] / (w.sum() + 1e-4))

    graph = rewrite(Weighted(), torch.ones(1, 3), by=[])
    assert ops(graph) == ["mul"]
    assert float(graph.nodes[0].inputs[1].const) == float(torch.tensor(3.0) / torch.tensor(4.0001))
