"""pad: any dimension, zero or another value."""

from __future__ import annotations

import pytest
import torch.nn.functional as F
from parity import check_float, check_int8, image

from exporter.errors import UnsupportedError

CASES = [
    pytest.param((1, 2, 3, 4), 0.0, (1, 3, 5, 7), ["PAD"], id="image"),
    pytest.param((0, 0, 0, 0, 1, 2), 0.0, (1, 3, 5, 7), ["PAD"], id="channels"),
    pytest.param((0, 0, 0, 0, 0, 0, 1, 0), 0.0, (1, 3, 5, 7), ["PAD"], id="batch"),
    pytest.param((1, 2, 3, 4, 5, 6), 0.0, (1, 3, 5, 7), ["PAD"], id="image-and-channels"),
    pytest.param((1, 1, 1, 1), 0.5, (1, 3, 5, 7), ["PADV2"], id="a-value-in-range"),
    pytest.param((1, 1, 1, 1), 4.0, (1, 3, 5, 7), ["PADV2"], id="a-value-out-of-range"),
    pytest.param((1, 1, 1, 1), -4.0, (1, 3, 5, 7), ["PADV2"], id="a-negative-value-out-of-range"),
    pytest.param((2, 1), 0.0, (4, 5), ["PAD"], id="rank-2"),
    pytest.param((2, 1, 0, 3), 0.0, (2, 4, 5), ["PAD"], id="rank-3"),
]  # fmt: skip


@pytest.mark.parametrize(("widths", "value", "shape", "ops"), CASES)
def test_float(widths, value, shape, ops):
    assert check_float(lambda x: F.pad(x, widths, value=value), image(*shape)).ops == ops


@pytest.mark.parametrize(("widths", "value", "shape", "ops"), CASES)
def test_int8(widths, value, shape, ops):
    assert check_int8(lambda x: F.pad(x, widths, value=value), image(*shape, high=2)).ops == ops


@pytest.mark.parametrize(("low", "high"), [pytest.param(1, 2, id="positive"), pytest.param(-2, -1, id="negative")])
def test_int8_pads_with_the_zero_point(low, high):
    (result,) = check_int8(lambda x: F.pad(x, (1, 1, 1, 1)), image(1, 3, 4, 4, low=low, high=high)).graph.outputs
    assert result.quant.zero_point == (-128 if low > 0 else 127)


def test_reflection_is_refused():
    with pytest.raises(UnsupportedError, match="only constant padding"):
        check_float(lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"), image(1, 3, 5, 7))


def test_cropping_by_negative_widths_is_refused():
    with pytest.raises(UnsupportedError, match="negative widths"):
        check_float(lambda x: F.pad(x, (-1, 0, 0, 0)), image(1, 3, 5, 7))
