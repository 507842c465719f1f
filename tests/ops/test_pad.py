"""pad: any dimension, zero or another value."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from parity import check_float, check_int8, image

from exporter.errors import AccuracyError, UnsupportedError

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


@pytest.mark.parametrize("mode", ["reflect", "replicate"])
@pytest.mark.parametrize("widths", [(1, 1, 1, 1), (2, 0, 0, 3)])
@pytest.mark.parametrize("check", [check_float, check_int8])
def test_borders_are_slices_of_the_tensor(check, widths, mode):
    assert set(check(lambda x: F.pad(x, widths, mode=mode), image(1, 3, 5, 7)).ops) == {"SLICE", "CONCATENATION"}


@pytest.mark.parametrize("check", [check_float, check_int8])
def test_negative_widths_crop(check):
    assert check(lambda x: F.pad(x, (-1, 0, 0, -2)), image(1, 3, 5, 7)).ops == ["SLICE", "SLICE"]
    assert check(lambda x: F.pad(x, (-1, 2)), image(1, 3, 5, 7)).ops == ["SLICE", "PAD"]


def test_circular_padding_is_refused():
    with pytest.raises(UnsupportedError, match="circular"):
        check_float(lambda x: F.pad(x, (1, 1, 1, 1), mode="circular"), image(1, 3, 5, 7))


FIXED = [
    pytest.param(lambda x: F.pad(x.sigmoid(), (1, 1), value=5.0), 1, id="sigmoid"),
    pytest.param(lambda x: F.pad(x.softmax(1), (1, 1), value=-1.0), 1, id="softmax"),
    pytest.param(lambda x: F.pad(F.max_pool2d(x.tanh(), 3, 1, 1), (1, 1), value=-3.0), 1, id="pooled-tanh"),
    pytest.param(lambda x: torch.cat([y := x.sigmoid(), F.pad(y, (1, 1), value=5.0)], 3), 2, id="joined-with-itself"),
    pytest.param(lambda x: F.pad(x.sigmoid(), (1, 1), value=1.0), 0, id="within-a-step"),
    pytest.param(lambda x: F.pad(x.tanh(), (1, 1), value=-0.5), 0, id="within-the-range"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "requantised"), FIXED)
def test_a_value_beyond_a_fixed_range_is_requantised(model, requantised):
    assert check_int8(model, image(1, 3, 5, 7, low=-3, high=3)).ops.count("QUANTIZE") == requantised


@pytest.mark.parametrize("value", [-1e4, 1e4])
def test_a_value_far_beyond_the_range_is_refused(value):
    model = lambda x: F.max_pool2d(F.pad(x * 2, (1, 1, 1, 1), value=value), 3, 2)  # noqa: E731
    with pytest.raises(AccuracyError, match="a pad would join ranges"):
        check_int8(model, image(1, 3, 8, 8))


def test_a_value_near_zero_is_no_reason_to_refuse():
    check_int8(lambda x: F.pad(x * 2, (1, 1, 1, 1), value=1e-3), image(1, 3, 8, 8))


def test_minus_infinity_ahead_of_a_max_pool():
    check_int8(lambda x: F.max_pool2d(F.pad(x * 2, (1, 1, 1, 1), value=-math.inf), 3, 2), image(1, 3, 8, 8))
