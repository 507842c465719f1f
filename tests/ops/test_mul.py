"""mul: broadcasting, constants on either side, ranges far apart, fused activations."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from operands import CONSTANTS, PAIRS, RANGES, pair, ranged
from parity import check_float, check_int8, image


def mul(a, b):
    return a * b


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_float(a, b):
    assert "MUL" in check_float(mul, *pair(a, b)).ops


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_int8(a, b):
    assert "MUL" in check_int8(mul, *pair(a, b)).ops


@pytest.mark.parametrize(("x", "c"), CONSTANTS)
@pytest.mark.parametrize("check", [check_float, check_int8])
def test_constant(check, x, c):
    x, c = pair(x, c)
    check(lambda x: x * c, x)
    check(lambda x: c * x, x)


@pytest.mark.parametrize(("a", "b"), RANGES[:-1])
def test_int8_ranges(a, b):
    check_int8(mul, *ranged(a, b))


def test_int8_products_below_the_smallest_scale_are_zero():
    """Products up to 9e-6 at the smallest scale, 2^-14: a documented limit, since Core ML stores scales in float16."""
    result = check_int8(mul, *ranged((-0.003, 0.003), (-0.003, 0.003)), least=0)
    assert (result.outputs[0] == result.graph.outputs[0].quant.zero_point).all()


@pytest.mark.parametrize("activation", [F.relu, F.relu6])
@pytest.mark.parametrize("check", [check_float, check_int8])
def test_fused(check, activation):
    result = check(lambda a, b: activation(a * b), *ranged((-3, 3), (-3, 3)))
    assert result.ops == ["MUL"]


@pytest.mark.parametrize("check", [check_float, check_int8])
@pytest.mark.parametrize("number", [0.5, -3.0, 1000.0, 0.37])
def test_number(check, number):
    check(lambda x: x * number, image(1, 3, 5, 7))


@pytest.mark.parametrize("check", [check_float, check_int8])
def test_negation(check):
    check(torch.neg, image(1, 3, 5, 7, high=3))


@pytest.mark.parametrize("check", [check_float, check_int8])
def test_a_tensor_and_itself(check):
    check(lambda x: x * x, image(1, 3, 5, 7))


@pytest.mark.parametrize("check", [check_float, check_int8])
def test_squeeze_and_excite_gate(check):
    result = check(lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)), image(1, 8, 6, 6, low=-3, high=3))
    assert result.nodes == ["mean", "sigmoid", "mul"]


def test_a_product_coarser_than_its_operands_needs_version_3():
    """s_a * s_b / s_y >= 1: operands with wide steps whose product is clipped by relu6."""
    result = check_int8(lambda a, b: F.relu6(a * b), *ranged((-40, 40), (-40, 40)), least=25)
    assert [(op.name, op.version) for op in result.file.ops] == [("MUL", 3)]
