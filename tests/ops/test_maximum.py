"""maximum: in int8 both operands and the result share one set of parameters, and the larger code is the larger number.

TFLite's own kernel runs it in int8 (XNNPACK takes it in float alone): 0.09 ms per 10^6 elements on the AVX2 machine
where XNNPACK's float kernel takes 0.86.
"""

from __future__ import annotations

import pytest
import torch
from operands import CONSTANTS, PAIRS, pair, ranged
from parity import check_float, check_int8, image
from torch import nn

from exporter.errors import AccuracyError


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_float(a, b):
    assert "MAXIMUM" in check_float(torch.maximum, *pair(a, b)).ops


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_int8(a, b):
    assert "MAXIMUM" in check_int8(torch.maximum, *pair(a, b)).ops


@pytest.mark.parametrize(("x", "c"), CONSTANTS)
@pytest.mark.parametrize("check", [check_float, check_int8])
def test_constant(check, x, c):
    x, c = pair(x, c)
    check(lambda x: torch.maximum(x, c), x)
    check(lambda x: torch.maximum(c, x), x)


RANGES = [
    pytest.param((-1, 1), (-1, 1), id="alike"),
    pytest.param((0, 1), (-9, -4), id="always-the-first"),
    pytest.param((-0.1, 5), (-5, 0.1), id="asymmetric"),
    pytest.param((-8, -1), (-4, -2), id="negative"),
]


@pytest.mark.parametrize(("a", "b"), RANGES)
def test_int8_ranges(a, b):
    """Graph inputs keep their own parameters, so both are requantised."""
    assert check_int8(torch.maximum, *ranged(a, b)).ops == ["QUANTIZE", "QUANTIZE", "MAXIMUM"]


@pytest.mark.parametrize("check", [check_float, check_int8])
def test_operands_of_its_own_need_no_requantisation(check):
    class Maxout(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return torch.maximum(torch.maximum(self.a(x), self.b(x)), self.c(x))

    assert check(Maxout(), image(1, 3, 6, 6)).ops == ["CONV_2D", "CONV_2D", "MAXIMUM", "CONV_2D", "MAXIMUM"]


@pytest.mark.parametrize("check", [check_float, check_int8])
def test_a_fixed_operand_is_requantised(check):
    check(lambda x: torch.maximum(x.sigmoid(), x * 2), image(1, 3, 5, 7, low=-3, high=3))


@pytest.mark.parametrize("check", [check_float, check_int8])
def test_halves_of_the_channels(check):
    check(lambda x: torch.maximum(x[:, :2], x[:, 2:]), image(1, 4, 5, 7))


def test_ranges_far_apart_are_refused():
    with pytest.raises(AccuracyError, match="a maximum would join ranges"):
        check_int8(lambda x: torch.maximum(x * 2, x * 1000), image(1, 3, 5, 7))
