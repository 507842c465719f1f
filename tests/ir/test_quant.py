"""QuantParams and the float16 grid."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from exporter.ir.quant import MIN_SCALE, QuantParams, fp16_grid


# --- the grid ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("scale", [1 / 255, 0.1, 1 / 3, 3.14159, 2.0**-14, 1e-3, 100.7])
def test_grid_values_are_float16_and_float32(scale):
    snapped = fp16_grid(scale)
    assert float(np.float16(snapped)) == snapped == float(np.float32(snapped))
    assert abs(snapped - scale) <= scale * 2**-11


@pytest.mark.parametrize("scale", [1 / 255, 0.1, 1 / 3, 3.14159, 1.0, 2.0**-14, 7e-5])
def test_up_is_the_next_grid_value_not_below(scale):
    up = fp16_grid(scale, up=True)
    assert up >= scale
    assert float(np.nextafter(np.float16(up), np.float16(0))) < scale or up == MIN_SCALE


def test_grid_values_stay():
    assert fp16_grid(0.25) == fp16_grid(0.25, up=True) == 0.25


@pytest.mark.parametrize("scale", [0.0, 1e-12, 2.0**-15])
def test_scales_below_the_smallest_become_the_smallest(scale):
    """The smallest normal float16: Core ML stores scales in float16."""
    assert fp16_grid(scale) == fp16_grid(scale, up=True) == MIN_SCALE == 2.0**-14


# --- parameters -------------------------------------------------------------------------------------------------------
REFUSED = {
    "no scale": ((), 0, None, "int8", "finite and positive"),
    "zero scale": ((0.0,), 0, None, "int8", "finite and positive"),
    "negative scale": ((-1.0,), 0, None, "int8", "finite and positive"),
    "infinite scale": ((float("inf"),), 0, None, "int8", "finite and positive"),
    "a scale that is no number": ((float("nan"),), 0, None, "int8", "finite and positive"),
    "one of many is zero": ((1.0, 0.0), 0, 0, "int8", "finite and positive"),
    "several scales without an axis": ((1.0, 2.0), 0, None, "int8", "2 scales need an axis"),
    "a zero point per channel": ((1.0, 2.0), 3, 0, "int8", "zero point 0"),
    "a zero point beyond int8": ((1.0,), 128, None, "int8", "zero point 128 outside int8"),
    "a zero point below uint8": ((1.0,), -1, None, "uint8", "zero point -1 outside uint8"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    scale, zero_point, axis, dtype, what = REFUSED[name]
    with pytest.raises(ValueError, match=what):
        QuantParams(scale, zero_point, axis, dtype)


def test_parameters_are_frozen_and_compare_by_value():
    params = QuantParams((0.5,), 3)
    with pytest.raises(AttributeError):
        params.zero_point = 4
    assert params == QuantParams((0.5,), 3)
    assert len({params, QuantParams((0.5,), 3)}) == 1


def test_limits_and_range():
    params = QuantParams((0.5,), -28)
    assert (params.limits, params.range) == ((-128, 127), (-50.0, 77.5))
    assert QuantParams((0.5,), 100, None, "uint8").range == (-50.0, 77.5)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
def test_every_code_survives_the_round_trip(dtype):
    params = QuantParams((0.0625,), 5, None, dtype)
    low, high = params.limits
    codes = torch.arange(low, high + 1)
    assert torch.equal(params.quantize(params.dequantize(codes)).int(), codes)


def test_per_channel_codes_survive_the_round_trip():
    params = QuantParams((0.5, 0.25, 2.0), 0, axis=1)
    codes = torch.arange(-127, 128, dtype=torch.int8).reshape(5, 51)[:, :3].contiguous()
    assert torch.equal(params.quantize(params.dequantize(codes)), codes)
    assert params.dequantize(codes)[0].tolist() == [codes[0, 0] * 0.5, codes[0, 1] * 0.25, codes[0, 2] * 2.0]


def test_the_error_of_a_round_trip_is_half_a_step():
    params = QuantParams((0.25,), 10)
    x = torch.linspace(*params.range, 1001)
    assert (params.dequantize(params.quantize(x)) - x).abs().max() <= 0.125


def test_ties_round_to_even_before_the_zero_point_is_added():
    """With an odd zero point the order matters: 0.5 -> 0 and 1.5 -> 2, then + 1."""
    x = torch.tensor([-1.5, -0.5, 0.5, 1.5, 2.5])
    assert QuantParams((1.0,), 1).quantize(x).tolist() == [-1, 1, 1, 3, 3]


def test_values_beyond_the_range_saturate():
    x = torch.tensor([-1e9, 1e9, float("-inf"), float("inf")])
    assert QuantParams((0.1,), 0).quantize(x).tolist() == [-128, 127, -128, 127]


def test_quantize_multiplies_by_the_float32_reciprocal():
    """As XNNPACK does; a division gives another code for this value."""
    params, x = QuantParams((fp16_grid(0.0059),), 0), torch.linspace(-0.7, 0.7, 200001)
    expected = torch.round(x * (torch.tensor(1.0) / torch.tensor(params.scale[0]))).clamp(-128, 127)
    assert torch.equal(params.quantize(x).float(), expected)
