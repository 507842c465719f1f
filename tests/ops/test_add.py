"""add: broadcasting, constants on either side, ranges far apart, fused activations."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from operands import CONSTANTS, PAIRS, RANGES, pair, ranged
from parity import check_float, check_int8, image


def add(a, b):
    return a + b


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_float(a, b):
    assert "ADD" in check_float(add, *pair(a, b)).ops


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_int8(a, b):
    assert "ADD" in check_int8(add, *pair(a, b)).ops


@pytest.mark.parametrize(("x", "c"), CONSTANTS)
@pytest.mark.parametrize("check", [check_float, check_int8])
def test_constant(check, x, c):
    x, c = pair(x, c)
    check(lambda x: x + c, x)
    check(lambda x: c + x, x)


@pytest.mark.parametrize(("a", "b"), RANGES)
def test_int8_ranges(a, b):
    check_int8(add, *ranged(a, b))


@pytest.mark.parametrize("activation", [F.relu, F.relu6])
@pytest.mark.parametrize("check", [check_float, check_int8])
def test_fused(check, activation):
    result = check(lambda a, b: activation(a + b), *ranged((-3, 3), (-3, 3)))
    assert result.ops == ["ADD"]


@pytest.mark.parametrize("check", [check_float, check_int8])
@pytest.mark.parametrize("number", [0.5, -3.0, 1000.0, 1e-3])
def test_number(check, number):
    check(lambda x: x + number, image(1, 3, 5, 7))


@pytest.mark.parametrize("check", [check_float, check_int8])
def test_alpha(check):
    check(lambda a, b: torch.add(a, b, alpha=-2), *pair((1, 3, 5, 7), (1, 3, 5, 7)))


@pytest.mark.parametrize("check", [check_float, check_int8])
def test_a_tensor_and_itself(check):
    check(lambda x: x + x, image(1, 3, 5, 7))
