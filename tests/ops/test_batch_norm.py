"""batch_norm: folded where a convolution is near, a mul and an add per channel elsewhere. No target writes it."""

from __future__ import annotations

import pytest
import torch
from parity import check_float, check_int8, image
from torch import nn


def trained(model: nn.Module) -> nn.Module:
    """`model` whose BatchNorms have statistics and affine parameters of a trained kind."""
    for norm in (m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)):
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.2, 2)
        if norm.affine:
            with torch.no_grad():
                norm.weight.uniform_(0.5, 1.5)
                norm.bias.uniform_(-1, 1)
    return model


CASES = [
    pytest.param(
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)), (1, 3, 8, 8), ["CONV_2D"], id="behind-a-conv"
    ),
    pytest.param(
        lambda: nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8)),
        (1, 8, 8, 8),
        ["DEPTHWISE_CONV_2D"],
        id="behind-a-depthwise-conv",
    ),
    pytest.param(
        lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 8, 3)),
        (1, 3, 8, 8),
        ["CONV_2D"],
        id="before-an-unpadded-conv",
    ),
    pytest.param(
        lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 8, 3, padding=1)),
        (1, 3, 8, 8),
        ["DEPTHWISE_CONV_2D", "CONV_2D"],
        id="before-a-padded-conv",
    ),
    pytest.param(
        lambda: nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8)), (2, 16), ["FULLY_CONNECTED"], id="behind-a-linear"
    ),
    pytest.param(
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()),
        (1, 3, 8, 8),
        ["CONV_2D"],
        id="conv-norm-relu",
    ),
    pytest.param(lambda: nn.BatchNorm2d(3), (1, 3, 8, 8), ["DEPTHWISE_CONV_2D"], id="alone"),
    pytest.param(lambda: nn.BatchNorm2d(3, affine=False), (1, 3, 8, 8), ["DEPTHWISE_CONV_2D"], id="without-affine"),
    pytest.param(lambda: nn.BatchNorm2d(1), (1, 1, 8, 8), ["MUL", "ADD"], id="one-channel"),
    pytest.param(lambda: nn.BatchNorm1d(8), (3, 8), ["MUL", "ADD"], id="rank-2"),
    pytest.param(lambda: nn.BatchNorm1d(8), (2, 8, 5), ["MUL", "ADD"], id="rank-3"),
    pytest.param(
        lambda: nn.Sequential(nn.Tanh(), nn.BatchNorm2d(3), nn.ReLU()),
        (1, 3, 8, 8),
        ["TANH", "DEPTHWISE_CONV_2D"],
        id="behind-a-tanh",
    ),
]


@pytest.mark.parametrize(("model", "shape", "ops"), CASES)
def test_float(model, shape, ops):
    assert check_float(trained(model()), image(*shape)).ops == ops


@pytest.mark.parametrize(("model", "shape", "ops"), CASES)
def test_int8(model, shape, ops):
    assert check_int8(trained(model()), image(*shape)).ops == ops


def test_a_tiny_variance_does_not_overflow():
    norm = trained(nn.BatchNorm2d(8))
    norm.running_var.fill_(1e-12)
    check_float(nn.Sequential(nn.Conv2d(3, 8, 3), norm), image(1, 3, 8, 8))


def test_batch_norm_of_batch_statistics_is_refused():
    from exporter.errors import UnsupportedError

    with pytest.raises(UnsupportedError, match="BatchNorm without running statistics"):
        check_float(nn.BatchNorm2d(3, track_running_stats=False), image(1, 3, 8, 8))
