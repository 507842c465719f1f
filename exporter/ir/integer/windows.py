"""Pooling, reductions and resampling."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from exporter.ir import ops
from exporter.ir.integer.registry import Params, integer, quantised, require_same, scale32, zero_point32
from exporter.ir.ops import Ints, Pads, Pair
from exporter.ir.quant import QuantParams


@integer
def max_pool2d(
    inputs: list[Tensor], params: Params, out: QuantParams, *, kernel: Pair, stride: Pair, padding: Pads
) -> Tensor:
    """The largest code of each window; padding never wins."""
    require_same(params, out, "max_pool2d")
    return ops.max_pool2d(inputs[0].float(), kernel=kernel, stride=stride, padding=padding).to(torch.int8)


@integer
def mean(inputs: list[Tensor], params: Params, out: QuantParams, *, dims: Ints, keepdim: bool) -> Tensor:
    """round(float32(sum of the codes)·m + z), with m = float32(float32(s_x/s_y)·float32(1/n)) and
    z = z_y - float32(n·z_x)·m, all in float32, half to even.

    Source: XNNPACK src/operators/reduce-nd.c, src/reference/unary-elementwise.cc. Where the reduced dims include the
    innermost stored one and hold over 8192 elements, XNNPACK's AVX2 sum overflows int16 and only this one is right.
    """
    x, x_params = inputs[0], quantised(params[0])
    count = int(np.prod([x.shape[d] for d in dims]))
    multiplier = scale32(x_params) / scale32(out) * (np.float32(1) / np.float32(count))
    zero_point = zero_point32(out) - np.float32(count * x_params.zero_point) * multiplier
    total = x.sum(dims, keepdim, dtype=torch.int32).to(torch.float32)
    codes = total.mul_(float(multiplier)).add_(float(zero_point)).round_()
    return codes.clamp_(*out.limits).to(torch.int8)


@integer
def amax(inputs: list[Tensor], params: Params, out: QuantParams, *, dims: Ints, keepdim: bool) -> Tensor:
    """The largest code."""
    require_same(params, out, "amax")
    return inputs[0].amax(dims, keepdim)


@integer
def resize_nearest(inputs: list[Tensor], params: Params, out: QuantParams, *, size: Pair) -> Tensor:
    """Copies codes from source index (i·(in·2^16 // out + 1)) >> 16, at most in - 1.

    The same as floor(i·in/out), exactly; float kernels and torch round that product and miss by one at some sizes
    (21 -> 69). Source: tflite/kernels/internal/optimized/optimized_ops.h (XNNPACK has no such op).
    """
    require_same(params, out, "resize_nearest")
    rows, columns = (
        (torch.arange(wide) * ((narrow << 16) // wide + 1) >> 16).clamp_(max=narrow - 1)
        for narrow, wide in zip(inputs[0].shape[2:], size, strict=True)
    )
    return inputs[0].permute(0, 2, 3, 1).index_select(2, columns).index_select(1, rows).permute(0, 3, 1, 2)


@integer
def resize_bilinear(
    inputs: list[Tensor], params: Params, out: QuantParams, *, size: Pair, align_corners: bool
) -> Tensor:
    """Interpolated with 11-bit weights in int32, rounded once, half up.

    Source: XNNPACK src/indirection.c (hwc_q11), src/s8-ibilinear.
    """
    require_same(params, out, "resize_bilinear")
    x = inputs[0].permute(0, 2, 3, 1).to(torch.int32)
    top, bottom, down = bilinear_taps(x.shape[1], size[0], align_corners)
    left, right, across = bilinear_taps(x.shape[2], size[1], align_corners)
    above, below = x.index_select(1, top), x.index_select(1, bottom)
    rows = (above << 11) + (below - above) * down[:, None, None]
    west, east = rows.index_select(2, left), rows.index_select(2, right)
    both = (west << 11) + (east - west) * across[:, None]
    return both.add_(1 << 21).bitwise_right_shift_(22).to(torch.int8).permute(0, 3, 1, 2)


def bilinear_taps(size: int, out_size: int, align_corners: bool) -> tuple[Tensor, Tensor, Tensor]:
    """For each output index: the two source indices and the second one's weight in units of 2^-11."""
    f32, corner = np.float32, int(align_corners and out_size > 1)
    ratio = f32(size - corner) / f32(out_size - corner)
    at = np.arange(out_size, dtype=np.float32) * ratio
    if not align_corners:
        at = np.maximum(at + (f32(0.5) * ratio - f32(0.5)), f32(0))
    at = np.minimum(at, f32(size - 1))
    first = at.astype(np.int64)
    weight = np.rint((at - first.astype(np.float32)) * f32(2048)).astype(np.int32)
    return torch.from_numpy(first), torch.from_numpy(np.minimum(first + 1, size - 1)), torch.from_numpy(weight)
