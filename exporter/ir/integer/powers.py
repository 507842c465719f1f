"""rsqrt and sqrt: XNNPACK does not take them in int8, so the arithmetic is that of TFLite's builtin kernels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from exporter.ir.integer.fixed_point import high_product, multiplied, q31, rounding_shift, settle
from exporter.ir.integer.registry import ALL_CODES, Params, cached_table, integer, lookup, quantised, reals, scale32
from exporter.ir.quant import QuantParams

KEPT_BITS = 20
"""Fractional bits of 1/sqrt(code) before the scales are applied."""
HALF_SQRT_2 = 1518500250
"""sqrt(1/2) in units of 2^-31."""


@integer
def rsqrt(inputs: list[Tensor], params: Params, out: QuantParams) -> Tensor:
    """1/sqrt(code - zero point) by five Newton steps in 32-bit fixed point, then the scales; 127 where that is 0.

    The input's zero point is -128: the kernel fails at run time on a negative number.
    Source: tflite/kernels/elementwise.cc (RsqrtEvalQuantizedInt8) and internal/common.h
    (GetInvSqrtQuantizedMultiplierExp).
    """
    x = quantised(params[0])
    if x.zero_point != -128:
        raise ValueError("the operand of an int8 rsqrt has zero point -128")
    return lookup(inputs[0], _rsqrt_table(x, out))


@cached_table
def _rsqrt_table(x: QuantParams, out: QuantParams) -> Tensor:
    scale = q31(1.0 / float(np.sqrt(scale32(x)) * scale32(out)))
    table = [127]
    for value in (int(code) - x.zero_point for code in ALL_CODES[1:]):
        data = multiplied(torch.tensor(1), *_inverse_root(value))
        root = multiplied(data, scale[0], scale[1] - KEPT_BITS)
        table.append(int(settle(root, out)))
    return torch.tensor(table, dtype=torch.int8)


def _inverse_root(value: int) -> tuple[int, int]:
    """2^KEPT_BITS / sqrt(value) as mantissa and shift, value in [1, 255]."""
    if value == 1:
        return 2**31 - 1, KEPT_BITS
    pairs = (31 - value.bit_length()) // 2 - 1
    root = 1 << 28  # 1 with three integer bits
    x = torch.tensor((value << 2 * pairs) >> 1)
    half = rounding_shift(x, 1)
    one_and_half = torch.tensor((1 << 28) + (1 << 27))
    y = torch.tensor(root)
    for _ in range(5):
        cube = high_product(high_product(y, y), y) << 6
        y = (high_product(one_and_half, y) - high_product(half, cube)) << 3
    shift = 11 - pairs
    mantissa = int(high_product(y, torch.tensor(HALF_SQRT_2)))
    return (mantissa << -shift, KEPT_BITS) if shift < 0 else (mantissa, KEPT_BITS - shift)


@integer
def sqrt(inputs: list[Tensor], params: Params, out: QuantParams) -> Tensor:
    """sqrtf(real) / scale, cut off, not rounded. Source: tflite/kernels/elementwise.cc (SqrtEvalQuantized)."""
    x = quantised(params[0])
    if x.zero_point != -128:
        raise ValueError("the operand of an int8 sqrt has zero point -128")
    return lookup(inputs[0], _sqrt_table(x, out))


@cached_table
def _sqrt_table(x: QuantParams, out: QuantParams) -> Tensor:
    codes = np.trunc(np.sqrt(reals(x)) / scale32(out)) + out.zero_point
    return torch.from_numpy(np.clip(codes, *out.limits).astype(np.int8))
