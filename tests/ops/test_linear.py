"""linear: ranks, fused activations, behind a feature map."""

from __future__ import annotations

import pytest
import torch
from parity import check_float, check_int8, image
from torch import nn

CASES = [
    pytest.param(lambda: nn.Linear(16, 8), (1, 16), id="rank-2"),
    pytest.param(lambda: nn.Linear(16, 8), (5, 16), id="batch-5"),
    pytest.param(lambda: nn.Linear(16, 8, bias=False), (1, 16), id="no-bias"),
    pytest.param(lambda: nn.Linear(16, 1), (1, 16), id="one-output"),
    pytest.param(lambda: nn.Linear(1, 8), (3, 1), id="one-input"),
    pytest.param(lambda: nn.Linear(1000, 8), (1, 1000), id="accumulator-beyond-2**24"),
    pytest.param(lambda: nn.Linear(16, 8), (16,), id="rank-1"),
    pytest.param(lambda: nn.Linear(16, 8), (2, 3, 16), id="rank-3"),
    pytest.param(lambda: nn.Linear(6, 8), (1, 3, 5, 6), id="rank-4"),
    pytest.param(lambda: nn.Sequential(nn.Linear(16, 8), nn.ReLU()), (2, 16), id="relu"),
    pytest.param(lambda: nn.Sequential(nn.Linear(16, 8), nn.ReLU6()), (2, 16), id="relu6"),
    pytest.param(lambda: nn.Sequential(nn.Flatten(), nn.Linear(60, 8)), (1, 3, 4, 5), id="behind-a-flattened-map"),
    pytest.param(
        lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)), (1, 8, 4, 4), id="classifier"
    ),
]


@pytest.mark.parametrize(("model", "shape"), CASES)
def test_float(model, shape):
    check_float(model(), image(*shape))


@pytest.mark.parametrize(("model", "shape"), CASES)
def test_int8(model, shape):
    check_int8(model(), image(*shape))


@pytest.mark.parametrize(
    ("low", "high"), [pytest.param(0.0, 9.0, id="positive"), pytest.param(-7.0, -3.0, id="negative")]
)
def test_int8_input_ranges(low, high):
    check_int8(nn.Linear(16, 8), image(2, 16, low=low, high=high))


def test_addmm_is_linear():
    weight, bias = torch.randn(16, 8), torch.randn(8)
    assert check_float(lambda x: torch.addmm(bias, x, weight), image(2, 16)).ops == ["FULLY_CONNECTED"]


def test_a_classifier_needs_no_transpose():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    assert check_int8(model, image(1, 3, 6, 6)).ops == ["CONV_2D", "MEAN", "RESHAPE", "FULLY_CONNECTED"]
