"""TFLite's own fixed-point rescaling, used by the builtin kernels of ops that XNNPACK leaves alone.

Source: LiteRT tflite/kernels/internal/common.cc and quantization_util.cc, in their double-rounding form, which is the
one that the x86 wheels are built with.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from exporter.ir.integer.registry import ACTIVATION_RANGES, scale32
from exporter.ir.quant import QuantParams


def rescale(x: Tensor, multiplier: float) -> Tensor:
    """int64 `x` times a positive double, as a 31-bit mantissa and a shift: two roundings, half away from zero."""
    return multiplied(x, *q31(multiplier))


def multiplied(x: Tensor, mantissa: int, shift: int) -> Tensor:
    """int64 `x` times mantissa·2^(shift - 31). Source: MultiplyByQuantizedMultiplier."""
    high = high_product(x << max(shift, 0), torch.tensor(mantissa))
    return rounding_shift(high, max(-shift, 0))


def high_product(a: Tensor, b: Tensor) -> Tensor:
    """a·b / 2^31, half away from zero. Source: gemmlowp's SaturatingRoundingDoublingHighMul."""
    product = a * b
    nudge = torch.where(product >= 0, 1 << 30, 1 - (1 << 30))
    return torch.div(product + nudge, 1 << 31, rounding_mode="trunc")


def q31(multiplier: float) -> tuple[int, int]:
    """multiplier = mantissa·2^(shift - 31), mantissa in [2^30, 2^31)."""
    fraction, shift = math.frexp(multiplier)
    mantissa = math.floor(fraction * 2**31 + 0.5)
    if mantissa == 1 << 31:
        mantissa, shift = 1 << 30, shift + 1
    return (0, 0) if shift < -31 else (mantissa, shift)


def rounding_shift(x: Tensor, exponent: int) -> Tensor:
    """x / 2^exponent, half away from zero."""
    mask = (1 << exponent) - 1
    return (x >> exponent) + ((x & mask) > (mask >> 1) + (x < 0).to(torch.int64)).to(torch.int64)


def round_half_away(x: np.ndarray) -> np.ndarray:
    """C's round()."""
    return np.asarray(np.copysign(np.floor(np.abs(x) + np.float32(0.5)), x))


def builtin_clamp(activation: str, out: QuantParams) -> tuple[int, int]:
    """The codes a builtin kernel clamps to: bound / scale rounded half away from zero, then the zero point."""
    low, high = ACTIVATION_RANGES[activation]
    codes = [
        math.floor(float(np.float32(bound) / scale32(out)) + 0.5) + out.zero_point if np.isfinite(bound) else limit
        for bound, limit in zip((low, high), out.limits, strict=True)
    ]
    return max(codes[0], out.limits[0]), min(codes[1], out.limits[1])


def settle(x: Tensor, out: QuantParams, activation: str = "none") -> Tensor:
    """int64 in units of the output scale -> int8 codes."""
    low, high = builtin_clamp(activation, out)
    return (x + out.zero_point).clamp(low, high).to(torch.int8)
