"""sub: broadcasting, constants on either side, ranges far apart, fused activations."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from operands import CONSTANTS, PAIRS, RANGES, pair, ranged
from parity import check_float, check_int8, image


def sub(a, b):
    return a - b


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_float(a, b):
    assert "SUB" in check_float(sub, *pair(a, b)).ops


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_int8(a, b):
    assert "SUB" in check_int8(sub, *pair(a, b)).ops


@pytest.mark.parametrize(("x", "c"), CONSTANTS)
@pytest.mark.parametrize("check", [check_float, check_int8])
def test_constant(check, x, c):
    x, c = pair(x, c)
    check(lambda x: x - c, x)
    check(lambda x: c - x, x)


@pytest.mark.parametrize(("a", "b"), RANGES)
def test_int8_ranges(a, b):
    check_int8(sub, *ranged(a, b))


@pytest.mark.parametrize("activation", [F.relu, F.relu6])
@pytest.mark.parametrize("check", [check_float, check_int8])
def test_fused(check, activation):
    result = check(lambda a, b: activation(a - b), *ranged((-3, 3), (-3, 3)))
    assert result.ops == ["SUB"]


@pytest.mark.parametrize("check", [check_float, check_int8])
@pytest.mark.parametrize("number", [0.5, -3.0, 100.0])
def test_number(check, number):
    check(lambda x: x - number, image(1, 3, 5, 7))
    check(lambda x: number - x, image(1, 3, 5, 7))
    check(lambda x: torch.rsub(x, number, alpha=2), image(1, 3, 5, 7))
