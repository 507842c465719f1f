"""add, sub and mul: XNNPACK's two-operand kernels. Operands broadcast like torch; any of them may be a constant."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from exporter.errors import UnsupportedError
from exporter.ir.integer.fixed_point import rescale, settle
from exporter.ir.integer.registry import (
    Params,
    cached_table,
    centred,
    clamp_codes,
    integer,
    lookup,
    quantised,
    reals,
    reference_codes,
    require_same,
    scale32,
    to_codes,
)
from exporter.ir.quant import QuantParams


@integer
def add(inputs: list[Tensor], params: Params, out: QuantParams, *, activation: str) -> Tensor:
    """a + b in fixed point: see `_weighted_sum`."""
    return _weighted_sum(inputs, params, out, 1, activation)


@integer
def sub(inputs: list[Tensor], params: Params, out: QuantParams, *, activation: str) -> Tensor:
    """a - b: an addition whose second multiplier is negative."""
    return _weighted_sum(inputs, params, out, -1, activation)


def _weighted_sum(inputs: list[Tensor], params: Params, out: QuantParams, sign: int, activation: str) -> Tensor:
    """(a·m_a + b·m_b + bias) >> shift in int32, plus the zero point; rounds half up.

    The multipliers are the scale ratios s_a/s_y and s_b/s_y times 2^shift, rounded half to even; shift puts the
    larger one into [2^20, 2^21). Source: XNNPACK src/microparams-init.c (xnn_init_qs8_add_minmax_scalar_params).
    """
    a, b = inputs
    a_params, b_params = quantised(params[0]), quantised(params[1])
    ratio_a, ratio_b = scale32(a_params) / scale32(out), scale32(b_params) / scale32(out)
    check_ratio(max(ratio_a, ratio_b))
    if min(ratio_a, ratio_b) < 2**-10:
        return _builtin_sum(inputs, params, out, sign, activation)
    shift = 21 - int(np.frexp(max(ratio_a, ratio_b))[1])
    m_a, m_b = (int(np.rint(np.ldexp(ratio, shift))) for ratio in (ratio_a, ratio_b))
    m_b *= sign
    bias = (1 << (shift - 1)) - m_a * a_params.zero_point - m_b * b_params.zero_point
    acc = a.to(torch.int32).mul_(m_a) + b.to(torch.int32).mul_(m_b).add_(bias)
    low, high = clamp_codes(activation, out)
    return acc.bitwise_right_shift_(shift).add_(out.zero_point).clamp_(low, high).to(torch.int8)


def _builtin_sum(inputs: list[Tensor], params: Params, out: QuantParams, sign: int, activation: str) -> Tensor:
    """Both operands rescaled to twice the larger scale with 20 more bits, added, rescaled.

    Source: tflite/kernels/add.cc and sub.cc, for scale ratios that XNNPACK does not take.
    """
    operands = [(x.to(torch.int64), quantised(q)) for x, q in zip(inputs, params, strict=True)]
    common = 2.0 * max(q.scale[0] for _, q in operands)
    a, b = (rescale((x - q.zero_point) << 20, q.scale[0] / common) for x, q in operands)
    return settle(rescale(a + sign * b, common / (2.0**20 * out.scale[0])), out, activation)


@integer
def mul(inputs: list[Tensor], params: Params, out: QuantParams, *, activation: str) -> Tensor:
    """round(float32((a - z_a)·(b - z_b))·m) + zero point, with m = float32(float32(s_a·s_b) / s_y), half to even.

    Source: XNNPACK src/qs8-vmul, fp32 variant (x86). ARM runs the rndnu variant: equal but for ties. Ratios below
    XNNPACK's range go to tflite/kernels/mul.cc. A tensor times itself becomes XNNPACK's square, with its own rounding.
    """
    a, b = inputs
    a_params, b_params = quantised(params[0]), quantised(params[1])
    multiplier = scale32(a_params) * scale32(b_params) / scale32(out)
    check_ratio(multiplier)
    if multiplier < 2**-16:
        product = (a.to(torch.int64) - a_params.zero_point) * (b.to(torch.int64) - b_params.zero_point)
        return settle(rescale(product, float(multiplier)), out, activation)
    if a is b:
        return lookup(a, _square_table(a_params, out)).clamp_(*clamp_codes(activation, out))
    product = centred(a, a_params) * centred(b, b_params)
    return to_codes(product.mul_(float(multiplier)), out, activation)


@cached_table
def _square_table(x: QuantParams, out: QuantParams) -> Tensor:
    """Source: XNNPACK src/subgraph.c (optimize_common_subgraphs_mul_to_sqr), src/reference/unary-elementwise.cc."""
    return reference_codes(np.square(reals(x)), out)


@integer
def maximum(inputs: list[Tensor], params: Params, out: QuantParams) -> Tensor:
    """The larger code: one set of parameters for both operands and the result."""
    require_same(params, out, "maximum")
    return torch.maximum(*inputs)


@integer
def div(inputs: list[Tensor], params: Params, out: QuantParams, *, activation: str) -> Tensor:
    """Refused: XNNPACK has no int8 division, and TFLite's own overflows for small divisors."""
    raise UnsupportedError(
        "int8 division",
        why="the runtime's int8 kernel overflows when the divisor is near zero",
        try_="keep div in float, or multiply by the reciprocal where the divisor is a constant",
    )


def check_ratio(ratio: np.float32) -> None:
    """Refuse scale ratios from 256 on: XNNPACK does not take them, and TFLite's kernels wrap around in int16."""
    if ratio >= 256:
        raise UnsupportedError(
            f"an int8 op whose output scale is {ratio:.3g} times finer than its input allows",
            why="beyond 256 the runtime's kernels wrap around instead of saturating",
            try_="widen the range of the output",
        )
