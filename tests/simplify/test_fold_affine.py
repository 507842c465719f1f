"""fold_affine: mul and add per channel disappear into a neighbouring convolution or linear."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from parity import image
from rewriting import ops, rewrite
from torch import nn

from exporter.simplify.fold_affine import fold_affine
from exporter.simplify.fuse_activations import fuse_activations

X = image(1, 4, 8, 8)
C = torch.tensor([0.5, -2.0, 3.0, 0.1]).reshape(4, 1, 1)
D = torch.tensor([5.0, 1.0, -3.0, 0.7]).reshape(1, 4, 1, 1)
FULL = image(1, 4, 6, 6)
V = torch.tensor([0.5, -2.0, 3.0, 0.1])


class Net(nn.Module):
    """f(x), a layer, g of it."""

    def __init__(self, layer, f=lambda x: x, g=lambda y: y):
        super().__init__()
        self.layer, self.f, self.g = layer, f, g

    def forward(self, x):
        return self.g(self.layer(self.f(x)))


def conv(**options):
    return nn.Conv2d(4, 4, 3, **options)


def depthwise(channels=4, **options):
    return nn.Conv2d(4, channels, 3, groups=4, **options)


INTO_ONE = {
    "mul behind": lambda: Net(conv(), g=lambda y: y * C),
    "mul first behind": lambda: Net(conv(), g=lambda y: C * y),
    "scalar behind": lambda: Net(conv(), g=lambda y: y * -2.5),
    "add behind": lambda: Net(conv(), g=lambda y: y + D),
    "sub behind": lambda: Net(conv(), g=lambda y: y - D),
    "chain behind": lambda: Net(conv(), g=lambda y: (y * C + D) * 2.0 - 1.0),
    "behind without bias": lambda: Net(conv(bias=False), g=lambda y: y * C + D),
    "behind padded": lambda: Net(conv(padding=1), g=lambda y: y * C + D),
    "behind depthwise": lambda: Net(depthwise(), g=lambda y: y * C + D),
    "behind groups": lambda: Net(conv(groups=2), g=lambda y: y * C + D),
    "mul before": lambda: Net(conv(), f=lambda x: x * C),
    "mul before padded": lambda: Net(conv(padding=1), f=lambda x: x * C),
    "add before": lambda: Net(conv(), f=lambda x: x + D),
    "sub before": lambda: Net(conv(), f=lambda x: x - D),
    "chain before": lambda: Net(conv(), f=lambda x: (x + D) * C - 1.0),
    "before depthwise": lambda: Net(depthwise(), f=lambda x: x * C + D),
    "before depthwise multiplier": lambda: Net(depthwise(8), f=lambda x: x * C + D),
    "scalar before": lambda: Net(conv(padding=1), f=lambda x: x / 255.0),
    "both sides": lambda: Net(conv(), f=lambda x: x * C + D, g=lambda y: y * D - C),
}


@pytest.mark.parametrize("name", INTO_ONE)
def test_one_convolution_is_left(name):
    assert ops(rewrite(INTO_ONE[name](), X, by=[fold_affine])) == ["conv2d"]


LINEAR = {
    "behind": lambda: Net(nn.Linear(4, 4), g=lambda y: y * V + V),
    "before": lambda: Net(nn.Linear(4, 4), f=lambda x: x * V + V),
    "scalar": lambda: Net(nn.Linear(4, 4), f=lambda x: x * 2 + 1, g=lambda y: y * 3 - 2),
}


@pytest.mark.parametrize("name", LINEAR)
def test_one_linear_is_left(name):
    assert ops(rewrite(LINEAR[name](), image(3, 4), by=[fold_affine])) == ["linear"]


def test_a_scalar_folds_into_a_linear_of_rank_3():
    assert ops(rewrite(Net(nn.Linear(4, 4), g=lambda y: y * 3 - 2), image(2, 4, 4), by=[fold_affine])) == ["linear"]


def test_steps_merge_without_a_convolution():
    assert ops(rewrite(lambda x: x * C * 2.0 * D + 1.0 + D - C, X, by=[fold_affine])) == ["mul", "add"]


def test_convolution_to_convolution_folds_once():
    """The step between two convolutions goes into one of them, not into both."""
    model = nn.Sequential(Net(conv(), g=lambda y: y * C + D), conv())
    assert ops(rewrite(model, X, by=[fold_affine])) == ["conv2d", "conv2d"]


class Shared(nn.Module):
    """One convolution on two inputs, a factor of its own behind each."""

    def __init__(self):
        super().__init__()
        self.conv = conv()

    def forward(self, a, b):
        return self.conv(a) * C, self.conv(b) * D


def test_shared_weights_get_a_folded_copy_per_use():
    model = Shared()
    graph = rewrite(model, X, X * 2, by=[fold_affine])
    assert ops(graph) == ["conv2d", "conv2d"]
    first, second = (n.inputs[1].const for n in graph.nodes)
    assert not torch.equal(first, second)
    assert torch.allclose(first, model.conv.weight * C.reshape(4, 1, 1, 1))
    assert torch.allclose(second, model.conv.weight * D.reshape(4, 1, 1, 1))


def test_an_add_keeps_shared_weights_shared():
    class Biased(Shared):
        def forward(self, a, b):
            return self.conv(a) + C, self.conv(b) + D

    graph = rewrite(Biased(), X, X * 2, by=[fold_affine])
    assert graph.nodes[0].inputs[1] is graph.nodes[1].inputs[1]


DECLINES = {
    "somebody else reads the convolution": lambda: Net(conv(), g=lambda y: (y * C, y)),
    "somebody else reads the step": lambda: Net(conv(), f=lambda x: x, g=lambda y: y.relu() * C),
    "an add before a padded convolution": lambda: Net(conv(padding=1), f=lambda x: x + D),
    "before groups": lambda: Net(conv(groups=2), f=lambda x: x * C),
    "a full tensor": lambda: Net(conv(), g=lambda y: y * FULL),
    "one factor per column": lambda: Net(conv(), g=lambda y: y * torch.linspace(1, 2, 6)),
    "a constant minus the result": lambda: Net(conv(), g=lambda y: 1.0 - y),
    "a larger constant": lambda: Net(nn.Conv2d(4, 1, 3), g=lambda y: y * C),
}


@pytest.mark.parametrize("name", DECLINES)
def test_declines(name):
    graph = rewrite(DECLINES[name](), X, by=[fold_affine])
    assert {"mul", "add", "sub"} & set(ops(graph))


def test_declines_a_convolution_with_an_activation():
    graph = rewrite(Net(conv(), g=lambda y: F.relu(y) * C), X, by=[fuse_activations, fold_affine])
    assert ops(graph) == ["conv2d", "mul"]


def test_declines_a_vector_behind_a_linear_of_rank_3():
    """Dim 1 of the result is not the dim of the outputs."""
    graph = rewrite(Net(nn.Linear(4, 4), g=lambda y: y * V.reshape(4, 1)), image(2, 4, 4), by=[fold_affine])
    assert ops(graph) == ["linear", "mul"]
