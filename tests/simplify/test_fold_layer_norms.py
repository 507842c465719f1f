"""fold_layer_norms: weight and bias of a norm disappear into what reads it."""

from __future__ import annotations

import pytest
import torch
from parity import image
from rewriting import rewrite
from torch import nn

from exporter.simplify.fold_layer_norm import fold_layer_norms
from exporter.simplify.layer_norm import recognise_layer_norms


def norm(width):
    layer = nn.LayerNorm(width)
    nn.init.uniform_(layer.weight, 0.5, 2)
    nn.init.uniform_(layer.bias, -1, 1)
    return layer


class Fork(nn.Module):
    """A norm with several readers."""

    def __init__(self, readers):
        super().__init__()
        self.norm, self.readers = norm(8), nn.ModuleList(readers)

    def forward(self, x):
        y = self.norm(x)
        return [reader(y) for reader in self.readers]


class FirstNorm(nn.Module):
    """A norm over the channels of a map, and a layer behind it."""

    def __init__(self, layer):
        super().__init__()
        self.weight, self.bias, self.layer = nn.Parameter(image(8, 1, 1) + 2), nn.Parameter(image(8, 1, 1)), layer

    def forward(self, x):
        centred = x - x.mean(1, True)
        y = centred * torch.rsqrt((centred * centred).mean(1, True) + 1e-6)
        return self.layer(y * self.weight + self.bias)


def weightless(model, x):
    graph = rewrite(model, x, by=[recognise_layer_norms, fold_layer_norms])
    (node,) = (n for n in graph.nodes if n.op.name == "layer_norm")
    _, weight, bias = node.inputs
    return bool((weight.const == 1).all()) and not bool(bias.const.any())


GOES = {
    "linear": (nn.Sequential(norm(8), nn.Linear(8, 5)), (2, 7, 8)),
    "linear without bias": (nn.Sequential(norm(8), nn.Linear(8, 5, bias=False)), (2, 7, 8)),
    "several linears": (Fork([nn.Linear(8, 5), nn.Linear(8, 8)]), (2, 7, 8)),
    "matrix": (nn.Sequential(norm(8), nn.Linear(8, 5)), (2, 8)),
    "convolution": (FirstNorm(nn.Conv2d(8, 4, 2, 2)), (1, 8, 6, 6)),
}
STAYS = {
    "another reader": (Fork([nn.Linear(8, 5), nn.ReLU()]), (2, 7, 8)),
    "the output itself": (Fork([nn.Linear(8, 5), nn.Identity()]), (2, 7, 8)),
    "padded convolution": (FirstNorm(nn.Conv2d(8, 4, 3, padding=1)), (1, 8, 6, 6)),
    "grouped convolution": (FirstNorm(nn.Conv2d(8, 8, 3, groups=8)), (1, 8, 6, 6)),
}


@pytest.mark.parametrize("name", GOES)
def test_goes(name):
    model, shape = GOES[name]
    assert weightless(model, image(*shape))


@pytest.mark.parametrize("name", STAYS)
def test_stays(name):
    model, shape = STAYS[name]
    assert not weightless(model, image(*shape))


def test_a_layer_that_serves_twice_is_folded_once_for_each_norm():
    shared = nn.Linear(8, 8)
    model = nn.Sequential(norm(8), shared, norm(8), shared)
    graph = rewrite(model, image(2, 7, 8), by=[fold_layer_norms])
    first, second = (n for n in graph.nodes if n.op.name == "linear")
    assert not torch.equal(first.inputs[1].const, second.inputs[1].const)
