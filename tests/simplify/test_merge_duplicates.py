"""merge_duplicates: the same op on the same operands is computed once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from parity import image
from rewriting import ops, rewrite
from torch import nn

from exporter.simplify.duplicates import merge_duplicates

X = image(1, 3, 6, 6)


def applied(model, *inputs):
    return ops(rewrite(model, *inputs, by=[merge_duplicates]))


def test_equal_ops_are_computed_once():
    assert applied(lambda x: torch.sigmoid(x) + torch.sigmoid(x), X) == ["sigmoid", "add"]


def test_chains_of_equal_ops():
    assert applied(lambda x: torch.tanh(x.sigmoid()) * torch.tanh(x.sigmoid()), X) == ["sigmoid", "tanh", "mul"]


def test_a_shared_convolution_called_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1, bias=True)

        def forward(self, x):
            return self.conv(x) + self.conv(x)

    assert applied(Twice(), X) == ["conv2d", "add"]


def test_an_output_may_be_a_duplicate():
    graph = rewrite(lambda x: (torch.relu(x), torch.relu(x)), X, by=[merge_duplicates])
    assert ops(graph) == ["relu"]
    assert graph.outputs[0] is graph.outputs[1]


def test_declines_other_attributes():
    assert applied(lambda x: F.leaky_relu(x, 0.1) + F.leaky_relu(x, 0.2), X) == ["leaky_relu", "leaky_relu", "add"]


def test_declines_swapped_operands():
    assert applied(lambda x, y: (x - y) * (y - x), X, X + 1) == ["sub", "sub", "mul"]


def test_declines_constants_of_equal_contents():
    assert applied(lambda x: x * torch.ones(3, 1, 1) + x * torch.ones(3, 1, 1), X) == ["mul", "mul", "add"]
