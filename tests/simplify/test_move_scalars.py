"""move_scalars: a scalar factor moves to the convolution that can absorb it, or to the smaller tensor."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from parity import image
from rewriting import ops, rewrite
from torch import nn

from exporter.simplify.fold_affine import fold_affine
from exporter.simplify.move_scalars import move_scalars

X = image(1, 3, 8, 8)


def applied(model, x=X, by=(move_scalars,)):
    return ops(rewrite(model, x, by=list(by)))


def up(x):
    return F.interpolate(x, scale_factor=2, mode="nearest")


SMALLER = {
    "resize_nearest": lambda x: up(x) * 0.3,
    "resize_bilinear": lambda x: F.interpolate(x, (16, 16), mode="bilinear") * -0.3,
    "scalar first": lambda x: 0.3 * up(x),
}


@pytest.mark.parametrize("name", SMALLER)
def test_before_an_enlargement_the_tensor_is_smaller(name):
    assert applied(SMALLER[name])[0] == "mul"


STAYS = {
    "behind a max-pool the tensor is smaller": lambda x: F.max_pool2d(x, 2) * 0.3,
    "behind a mean the tensor is smaller": lambda x: x.mean((2, 3)) * 0.3,
    "somebody else reads the enlargement": lambda x: _read_twice(up(x)),
    "a factor per channel": lambda x: up(x) * torch.tensor([1.0, 2.0, 3.0]).reshape(3, 1, 1),
    "an addition": lambda x: up(x) + 0.3,
    "an op that does not commute": lambda x: up(x).sigmoid() * 0.3,
}


def _read_twice(y):
    return y.relu() + y * 0.3


@pytest.mark.parametrize("name", STAYS)
def test_declines(name):
    assert applied(STAYS[name])[0] not in ("mul", "add")


class Net(nn.Module):
    """A convolution, `f`, then a factor."""

    def __init__(self, f, factor):
        super().__init__()
        self.conv, self.f, self.factor = nn.Conv2d(3, 4, 1), f, factor

    def forward(self, x):
        return self.f(self.conv(x)) * self.factor


ABSORBED = {
    "max-pool": (lambda y: F.max_pool2d(y, 3, 2, 1), 0.3, ["conv2d", "max_pool2d"]),
    "average pool": (lambda y: F.avg_pool2d(y, 2), -0.3, ["conv2d", "avg_pool2d"]),
    "mean": (lambda y: y.mean((2, 3)), -0.3, ["conv2d", "mean"]),
    "two steps": (lambda y: F.max_pool2d(up(y), 3), 0.3, ["conv2d", "resize_nearest", "max_pool2d"]),
    "slice": (lambda y: y[:, 1:3], 0.3, ["conv2d", "slice"]),
    "reshape": (lambda y: y.flatten(1), 0.3, ["conv2d", "reshape"]),
    "an add per channel": (lambda y: F.max_pool2d(y + torch.ones(4, 1, 1), 2), 0.3, ["conv2d", "max_pool2d"]),
}


@pytest.mark.parametrize("name", ABSORBED)
def test_a_convolution_absorbs_it(name):
    f, factor, expected = ABSORBED[name]
    assert applied(Net(f, factor), by=(move_scalars, fold_affine)) == expected


def test_a_negative_factor_does_not_pass_a_max_pool():
    assert applied(Net(lambda y: F.max_pool2d(y, 2), -0.3)) == ["conv2d", "max_pool2d", "mul"]


def test_a_factor_of_zero_does_not_pass_a_max_pool():
    assert applied(Net(lambda y: F.max_pool2d(y, 2), 0.0))[-1] == "mul"


def test_a_scalar_of_higher_rank_keeps_the_shape():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(6, 3)

        def forward(self, x):
            return self.linear(x).transpose(1, 2).reshape(1, 3, 4, 5) * torch.full((1, 1, 1, 1), 0.5)

    assert applied(Tokens(), image(1, 20, 6)) == ["linear", "mul", "transpose", "reshape"]
