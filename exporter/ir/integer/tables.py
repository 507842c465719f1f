"""Ops of one input, element by element: a 256-entry table, indexed by code + 128."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from exporter.ir.integer.elementwise import mul
from exporter.ir.integer.fixed_point import rescale, settle
from exporter.ir.integer.registry import (
    ALL_CODES,
    Params,
    cached_table,
    integer,
    lookup,
    quantised,
    reals,
    reference_codes,
    scale32,
)
from exporter.ir.quant import QuantParams


@integer
def sigmoid(inputs: list[Tensor], params: Params, out: QuantParams) -> Tensor:
    """exp(x)/(1 + exp(x)) in double, rounded to float32, then to codes. Source: XNNPACK src/reference."""
    return lookup(inputs[0], _sigmoid_table(quantised(params[0]), out))


@cached_table
def _sigmoid_table(x: QuantParams, out: QuantParams) -> Tensor:
    e = np.exp(np.clip(reals(x).astype(np.float64), -100, 100))
    return reference_codes((e / (1 + e)).astype(np.float32), out)


@integer
def tanh(inputs: list[Tensor], params: Params, out: QuantParams) -> Tensor:
    """tanh in float32, then to codes. Source: XNNPACK src/reference."""
    return lookup(inputs[0], _tanh_table(quantised(params[0]), out))


@cached_table
def _tanh_table(x: QuantParams, out: QuantParams) -> Tensor:
    return reference_codes(np.tanh(reals(x).astype(np.float64)).astype(np.float32), out)


@integer
def elu(inputs: list[Tensor], params: Params, out: QuantParams) -> Tensor:
    """expm1 in float32 below zero, then to codes. Source: XNNPACK src/reference."""
    return lookup(inputs[0], _elu_table(quantised(params[0]), out))


@cached_table
def _elu_table(x: QuantParams, out: QuantParams) -> Tensor:
    real = reals(x)
    return reference_codes(np.where(real < 0, np.expm1(real.astype(np.float64)).astype(np.float32), real), out)


def silu_codes(x: Tensor, x_params: QuantParams, sigmoid_params: QuantParams, out: QuantParams) -> Tensor:
    """mul(x, sigmoid(x)) as the one table that XNNPACK makes of it.

    The delegate fills its table by running the two kernels on all codes, so the integers are those of the two ops.
    Source: XNNPACK src/subgraph.c (xnn_subgraph_fuse_unary_quantized_into_lut).
    """
    return lookup(x, _silu_table(x_params, sigmoid_params, out))


@cached_table
def _silu_table(x: QuantParams, gate: QuantParams, out: QuantParams) -> Tensor:
    codes = torch.arange(-128, 128, dtype=torch.int8)
    return mul([codes, _sigmoid_table(x, gate)], [x, gate], out, activation="none")


@integer
def quantize(inputs: list[Tensor], params: Params, out: QuantParams) -> Tensor:
    """float32 -> codes; int8 codes of other parameters -> codes (`requantize`)."""
    (x,), (x_params,) = inputs, params
    if x_params is None:
        return out.quantize(x)
    if out.dtype == "uint8":
        return (requantize(x, x_params, _signed(out)).to(torch.int16) + 128).to(torch.uint8)
    if x_params.dtype == "uint8":
        return requantize((x.to(torch.int16) - 128).to(torch.int8), _signed(x_params), out)
    return requantize(x, x_params, out)


def _signed(params: QuantParams) -> QuantParams:
    """int8 parameters for the same real values: uint8 codes are int8 codes + 128."""
    return QuantParams(params.scale, params.zero_point - 128)


def requantize(x: Tensor, x_params: QuantParams, out: QuantParams) -> Tensor:
    """int8 codes of `x_params` -> those of `out`: TFLite's QUANTIZE of an int8 tensor.

    ((x - z_x)·m + 128) >> 8 plus the zero point, with m = round(256·s_x/s_y). Source: XNNPACK src/qs8-vcvt.
    """
    return lookup(x, _requantize_table(x_params, out))


@cached_table
def _requantize_table(x: QuantParams, out: QuantParams) -> Tensor:
    factors = slopes(x, out)
    if factors is None:
        return settle(rescale(_centred_codes(x), x.scale[0] / out.scale[0]), out)
    return _two_slopes(x, out, *factors)


@integer
def relu(inputs: list[Tensor], params: Params, out: QuantParams) -> Tensor:
    """`requantize`, clamped below: QUANTIZE against the ends of int8 (`saturating_steps`)."""
    return lookup(inputs[0], _clamp_table(quantised(params[0]), out, 0.0, math.inf))


@integer
def relu6(inputs: list[Tensor], params: Params, out: QuantParams) -> Tensor:
    """`requantize`, clamped to the codes of 0 and 6."""
    return lookup(inputs[0], _clamp_table(quantised(params[0]), out, 0.0, 6.0))


@integer
def clamp(inputs: list[Tensor], params: Params, out: QuantParams, *, low: float, high: float) -> Tensor:
    """`requantize`, clamped to the codes of both bounds."""
    return lookup(inputs[0], _clamp_table(quantised(params[0]), out, low, high))


@cached_table
def _clamp_table(x: QuantParams, out: QuantParams, low: float, high: float) -> Tensor:
    codes = torch.arange(-128, 128, dtype=torch.int8)
    for step in saturating_steps(out, low, high):
        codes, x = requantize(codes, x, step), step
    return codes


def saturating_steps(out: QuantParams, low: float, high: float) -> list[QuantParams]:
    """Parameters to requantise to, one after the other, so that the ends of int8 clamp to [low, high].

    Usually `out` alone: the range of a clamped value ends at the bounds. Where `out` is wider (a concat joined it with
    others), the codes are first shifted so far that a bound lies at an end of int8; shifts are exact. `low` <= 0 <=
    `high`. One QUANTIZE costs 0.04 ms per 10^6 elements, several in a row 0.15 (one lookup table), TFLite's own int8
    RELU 10.5 (one thread, AVX2, LiteRT 2.3).
    """
    bounds = np.rint(np.clip(np.array([low, high], np.float32) / scale32(out) + out.zero_point, *out.limits))
    shifts = -128 - int(bounds[0]), 127 - int(bounds[1])
    return [*(replace(out, zero_point=out.zero_point + shift) for shift in shifts if shift), out]


@integer
def leaky_relu(inputs: list[Tensor], params: Params, out: QuantParams, *, negative_slope: float) -> Tensor:
    """`requantize` with another multiplier for codes up to the zero point. Source: XNNPACK src/qs8-vlrelu."""
    return lookup(inputs[0], _leaky_relu_table(quantised(params[0]), out, negative_slope))


@cached_table
def _leaky_relu_table(x: QuantParams, out: QuantParams, negative_slope: float) -> Tensor:
    factors = slopes(x, out, negative_slope)
    if factors is not None:
        return _two_slopes(x, out, *factors)
    above = scale32(x) / scale32(out)
    below = scale32(x) * np.float32(negative_slope) / scale32(out)
    codes = _centred_codes(x)
    falling = rescale(codes, abs(float(below))) * int(np.sign(below))
    return settle(torch.where(codes >= 0, rescale(codes, float(above)), falling), out)


def slopes(x: QuantParams, out: QuantParams, negative_slope: float = 1.0) -> tuple[int, int] | None:
    """XNNPACK's factors from codes of `x` to codes of `out`, in 256ths: up to the zero point, and above it.

    None where TFLite's builtin kernel takes the op. Source: XNNPACK src/microparams-init.c (qs8-vcvt, qs8-vlrelu).
    """
    above = scale32(x) / scale32(out)
    below = above * np.float32(negative_slope)
    if not (2**-8 <= above <= 128 and abs(below) >= 2**-8 and -127.99609375 <= below <= 128):
        return None
    return int(np.rint(256 * below)), int(np.rint(256 * above))


def _two_slopes(x: QuantParams, out: QuantParams, below: int, above: int) -> Tensor:
    """Codes of slope·(x - z_x), one slope up to the zero point and one above it, in 256ths, rounded half up."""
    centred = ALL_CODES - x.zero_point
    codes = ((centred * np.where(centred > 0, above, below) + 128) >> 8) + out.zero_point
    return torch.from_numpy(np.clip(codes, *out.limits).astype(np.int8))


def _centred_codes(x: QuantParams) -> Tensor:
    return torch.from_numpy(ALL_CODES - x.zero_point).to(torch.int64)
