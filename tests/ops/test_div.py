"""div: int8 division overflows, so an int8 file computes it in float between dequantize and quantize."""

from __future__ import annotations

import pytest
from operands import PAIRS
from parity import check_float, check_int8, image


def div(a, b):
    return a / b


def pair(a, b):
    """A dividend in [-1, 1) and a divisor in [1, 4)."""
    return image(*a), image(*b, low=1, high=4, seed=2)


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_float(a, b):
    assert "DIV" in check_float(div, *pair(a, b)).ops


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_int8_is_a_float_island(a, b):
    result = check_int8(div, *pair(a, b))
    assert [op for op in result.ops if op not in ("TRANSPOSE", "RESHAPE")] == [
        "DEQUANTIZE",
        "DEQUANTIZE",
        "DIV",
        "QUANTIZE",
    ]
    assert list(result.islands.values()) == ["int8 division overflows near zero divisors in the runtime"]


@pytest.mark.parametrize("check", [check_float, check_int8])
@pytest.mark.parametrize("number", [2.0, -0.3, 255.0])
def test_by_a_number_is_a_mul(check, number):
    assert check(lambda x: x / number, image(1, 3, 5, 7)).ops == ["MUL"]


@pytest.mark.parametrize("check", [check_float, check_int8])
def test_of_a_number(check):
    result = check(lambda x: 2.0 / x, image(1, 3, 5, 7, low=1, high=4))
    assert "DIV" in result.ops


def test_with_a_rounding_mode_is_refused():
    import torch

    from exporter.errors import UnsupportedError

    with pytest.raises(UnsupportedError, match="rounding_mode='floor'"):
        check_float(lambda x: torch.div(x, 2, rounding_mode="floor"), image(1, 3, 5, 7))
