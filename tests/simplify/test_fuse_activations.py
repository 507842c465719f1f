"""fuse_activations: ReLU and ReLU6 become part of the op that makes their input."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from parity import image
from rewriting import ops, rewrite
from torch import nn

from exporter.simplify.fuse_activations import fuse_activations

X = image(2, 3, 6, 6, low=-5, high=9)
PRODUCERS = {
    "conv2d": nn.Conv2d(3, 4, 3),
    "linear": nn.Linear(6, 4),
    "add": lambda x: x + 1.0,
    "sub": lambda x: x - 1.0,
    "mul": lambda x: x * x,
}


@pytest.mark.parametrize("activation", [F.relu, F.relu6])
@pytest.mark.parametrize("name", PRODUCERS)
def test_fuses(name, activation):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = PRODUCERS[name]

        def forward(self, x):
            return activation(self.layer(x))

    (node,) = rewrite(Net(), X, by=[fuse_activations]).nodes
    assert (node.op.name, node.attrs["activation"]) == (name, activation.__name__)


def read_twice(x):
    y = x * 2
    return torch.relu(y) + y.tanh()


def read_as_output(x):
    y = x * 2
    return torch.relu(y), y


DECLINES = {
    "somebody else reads it": (read_twice, ["mul", "relu", "tanh", "add"]),
    "an output reads it": (read_as_output, ["mul", "relu"]),
    "an activation already": (lambda x: F.relu6(F.relu(x * 2)), ["mul", "relu6"]),
    "an op that cannot": (lambda x: F.relu(F.max_pool2d(x, 2)), ["max_pool2d", "relu"]),
    "a division": (lambda x: F.relu(x / (x * x + 1.0)), ["mul", "add", "div", "relu"]),
    "another activation": (lambda x: torch.sigmoid(x * 2), ["mul", "sigmoid"]),
    "the input": (F.relu, ["relu"]),
}


@pytest.mark.parametrize("name", DECLINES)
def test_declines(name):
    model, expected = DECLINES[name]
    assert ops(rewrite(model, X, by=[fuse_activations])) == expected
