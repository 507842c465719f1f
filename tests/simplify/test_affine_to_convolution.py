"""BatchNorms that stand alone become depthwise convolutions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from parity import image, run_float, simplified, snr
from rewriting import ops, rewrite
from torch import nn

from exporter.simplify.affine_to_convolution import affine_to_convolution

X = image(1, 4, 5, 6)
C, D = torch.tensor([0.5, -2.0, 3.0, 0.0]).reshape(4, 1, 1), torch.tensor([1.0, 0.0, -1.0, 0.5]).reshape(4, 1, 1)


def read_twice(x):
    y = x * C
    return y + D, y.tanh()


APPLIES = {
    "factor and shift": lambda x: x * C + D,
    "a shift of one number": lambda x: x * C + 1.5,
    "a factor of one number": lambda x: x * 2.0 + D,
    "a difference": lambda x: x * C - D,
}
STAYS = {
    "both of one number": (lambda x: x * 2.0 + 1.5, ["mul", "add"]),
    "a factor alone": (lambda x: x * C, ["mul"]),
    "a product that is read twice": (read_twice, ["mul", "add", "tanh"]),
    "per pixel": (lambda x: x * torch.arange(6.0) + D, ["mul", "add"]),
    "one channel": (lambda x: x[:, :1] * C[:1] + D[:1], ["slice", "mul", "add"]),
}


@pytest.mark.parametrize("name", APPLIES)
def test_applies(name):
    graph = rewrite(APPLIES[name], X, by=[affine_to_convolution])
    assert ops(graph) == ["conv2d"]
    assert graph.nodes[0].attrs["groups"] == 4
    assert snr(run_float(graph, X)[0], APPLIES[name](X)) > 120


@pytest.mark.parametrize("name", STAYS)
def test_declines(name):
    model, expected = STAYS[name]
    assert ops(rewrite(model, X, by=[affine_to_convolution])) == expected


def test_a_norm_and_relu_in_front_of_a_padded_convolution_are_one_op():
    norm = nn.BatchNorm2d(4)
    norm.running_mean.uniform_(-1, 1)
    model = nn.Sequential(norm, nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1))
    assert ops(simplified(model, X)) == ["conv2d", "conv2d"]


def test_a_norm_between_a_concat_and_a_convolution_without_padding_disappears():
    norm, conv = nn.BatchNorm2d(8).eval(), nn.Conv2d(8, 6, 1)
    assert ops(simplified(lambda x: conv(norm(torch.cat([x, F.relu(x)], 1))), X)) == ["relu", "concat", "conv2d"]
