"""Ops that XNNPACK does not take in int8: the arithmetic of TFLite's builtin kernels on x86."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from exporter.errors import UnsupportedError
from exporter.ir.integer.fixed_point import q31, rescale, round_half_away, settle
from exporter.ir.integer.registry import (
    ALL_CODES,
    Params,
    cached_table,
    integer,
    lookup,
    quantised,
    reals,
    require_same,
    scale32,
)
from exporter.ir.ops import Pads, Pair
from exporter.ir.quant import QuantParams


@integer
def relu(inputs: list[Tensor], params: Params, out: QuantParams) -> Tensor:
    """Rescaled, then clamped below at the zero point. Source: tflite/kernels/activations.cc (QuantizedReluX)."""
    return lookup(inputs[0], _relu_table(quantised(params[0]), out, "relu"))


@integer
def relu6(inputs: list[Tensor], params: Params, out: QuantParams) -> Tensor:
    """Rescaled, then clamped to the codes of 0 and 6."""
    return lookup(inputs[0], _relu_table(quantised(params[0]), out, "relu6"))


@cached_table
def _relu_table(x: QuantParams, out: QuantParams, activation: str) -> Tensor:
    centred = torch.from_numpy(ALL_CODES - x.zero_point).to(torch.int64)
    return settle(rescale(centred, float(scale32(x) / scale32(out))), out, activation)


@integer
def exp(inputs: list[Tensor], params: Params, out: QuantParams) -> Tensor:
    """A table made in float32, rounded half away from zero. Source: tflite/kernels/exp.cc, internal/common.h."""
    return lookup(inputs[0], _exp_table(quantised(params[0]), out))


@cached_table
def _exp_table(x: QuantParams, out: QuantParams) -> Tensor:
    y = np.exp(reals(x).astype(np.float64)).astype(np.float32)
    codes = round_half_away(y * (np.float32(1) / scale32(out))) + out.zero_point
    return torch.from_numpy(np.clip(codes, *out.limits).astype(np.int8))


@integer
def gelu(inputs: list[Tensor], params: Params, out: QuantParams, *, approximate: str) -> Tensor:
    """A table made in float32, rounded half away from zero. Source: tflite/kernels/internal/reference/gelu.h."""
    return lookup(inputs[0], _gelu_table(quantised(params[0]), out, approximate))


@cached_table
def _gelu_table(x_params: QuantParams, out: QuantParams, approximate: str) -> Tensor:
    x, f32 = reals(x_params), np.float32
    if approximate == "tanh":
        inner = f32(math.sqrt(2 / math.pi)) * (x + f32(0.044715) * x * x * x)
        y = f32(0.5) * x * (f32(1) + np.tanh(inner.astype(np.float64)).astype(f32))
    else:
        erfc = np.array([math.erfc(v) for v in x * f32(-math.sqrt(0.5))], f32)
        y = f32(0.5) * x * erfc
    codes = round_half_away(y * (f32(1) / scale32(out))) + out.zero_point
    return torch.from_numpy(np.clip(codes, *out.limits).astype(np.int8))


@integer
def hard_swish(inputs: list[Tensor], params: Params, out: QuantParams) -> Tensor:
    """16-bit fixed point. Source: tflite/kernels/internal/reference/hard_swish.h."""
    return lookup(inputs[0], _hard_swish_table(quantised(params[0]), out))


@cached_table
def _hard_swish_table(x: QuantParams, out: QuantParams) -> Tensor:
    fine = scale32(x) * np.float32(1 / 128)
    gain, gain_shift = _q15(fine / scale32(out))
    slope, slope_shift = _q15(fine / np.float32(3 / 32768))
    if gain_shift > 0:
        raise UnsupportedError(
            "an int8 hard_swish whose input scale is over 128 times its output scale",
            why="TFLite's kernel refuses it",
            try_="widen the output range",
        )
    value = (ALL_CODES.astype(np.int64) - x.zero_point) << 7
    output = _rounding_high_mul(value, gain)
    gate = _saturate(value << max(slope_shift - 1, 0))
    gate = _rounding_high_mul(gate, slope)
    gate = _saturate(gate << 1) if slope_shift > 0 else _rounding_shift(gate, -slope_shift)
    gate = (gate + (1 << 15)) >> 1
    product = np.trunc(gate * output / (1 << 15)).astype(np.int64)
    codes = _rounding_shift(product, -gain_shift) + out.zero_point
    return torch.from_numpy(np.clip(codes, *out.limits).astype(np.int8))


def _q15(multiplier: np.float32) -> tuple[int, int]:
    mantissa, shift = q31(float(multiplier))
    return min((mantissa + (1 << 15)) >> 16, 32767), shift


def _saturate(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(x, -32768, 32767))


def _rounding_high_mul(x: np.ndarray, multiplier: int) -> np.ndarray:
    """(2·x·multiplier) >> 16, half away from zero."""
    product = x * multiplier
    return np.trunc((product + np.where(product >= 0, 1 << 14, 1 - (1 << 14))) / (1 << 15)).astype(np.int64)


def _rounding_shift(x: np.ndarray, exponent: int) -> np.ndarray:
    """x / 2^exponent, half away from zero. The mask is an int16 and turns into -1 from exponent 16 on."""
    mask = (1 << exponent) - 1 if exponent < 16 else -1
    return np.asarray((x >> exponent) + ((x & mask) > (mask >> 1) + (x < 0)))


@integer
def softmax(inputs: list[Tensor], params: Params, out: QuantParams, *, dim: int) -> Tensor:
    """exp from a float32 table, summed in order in float32, rounded half away from zero.

    Source: tflite/kernels/internal/optimized/optimized_ops.h (x86; aarch64 uses another table, 1 LSB apart at times).
    """
    x = inputs[0].movedim(dim, -1).numpy().astype(np.int32)
    steps = -scale32(quantised(params[0])) * np.arange(256, dtype=np.float32)
    table = np.exp(steps.astype(np.float64)).astype(np.float32)
    exps = table[x.max(-1, keepdims=True) - x]
    total = np.add.accumulate(exps, -1)[..., -1:]
    probability = exps * (np.float32(1) / (total * scale32(out)))
    codes = np.clip(round_half_away(probability) + out.zero_point, *out.limits)
    return torch.from_numpy(codes.astype(np.int8)).movedim(-1, dim)


@integer
def avg_pool2d(
    inputs: list[Tensor], params: Params, out: QuantParams, *, kernel: Pair, stride: Pair, padding: Pads
) -> Tensor:
    """Mean of the codes inside the image, half away from zero (of the code, not of the real value).

    The kernel does not rescale, so input and output share their parameters.
    Source: tflite/kernels/internal/optimized/integer_ops/pooling.h.
    """
    require_same(params, out, "avg_pool2d")
    top, bottom, left, right = padding
    x = F.pad(inputs[0].float(), (left, right, top, bottom))
    inside = F.pad(torch.ones_like(inputs[0][:1, :1], dtype=torch.float32), (left, right, top, bottom))
    total = F.avg_pool2d(x, kernel, stride, divisor_override=1).to(torch.int32)
    count = F.avg_pool2d(inside, kernel, stride, divisor_override=1).to(torch.int32)
    half = (count // 2) * torch.where(total > 0, 1, -1)
    return torch.div(total + half, count, rounding_mode="trunc").to(torch.int8)
