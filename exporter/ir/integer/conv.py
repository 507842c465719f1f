"""conv2d, linear and matmul: exact int32 accumulation on float kernels, then XNNPACK's float32 requantisation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from exporter.ir import ops
from exporter.ir.integer.elementwise import check_ratio
from exporter.ir.integer.registry import Params, centred, integer, quantised, scale32, to_codes
from exporter.ir.ops import Pads, Pair, symmetric
from exporter.ir.quant import QuantParams

EXACT = 2**24
"""Integers below this size add up without rounding in float32, in any order."""

Conv = Callable[[Tensor, Tensor, Tensor | None], Tensor]


@integer
def conv2d(
    inputs: list[Tensor],
    params: Params,
    out: QuantParams,
    *,
    stride: Pair,
    padding: Pads,
    dilation: Pair,
    groups: int,
    activation: str,
) -> Tensor:
    """x int8 [N,C,H,W], weight int8 [O,C/groups,kh,kw], bias int32 [O]; padding holds the input's zero point.

    acc = sum((x - zero point)·w) + bias as int32; code = clamp(round(float32(acc)·m) + zero point), with
    m = float32(float32(s_x·s_w) / s_y) per output channel, rounding half to even.
    Source: XNNPACK src/operators/convolution-nhwc.c, src/qs8-qc8w-gemm.
    """
    x, weight, bias = inputs
    x_params, w_params = quantised(params[0]), quantised(params[1])
    multiplier = scale32(x_params) * np.array(w_params.scale, np.float32) / scale32(out)
    check_ratio(multiplier.max())
    x, pads = centred(x, x_params), (padding[0], padding[2])
    if not symmetric(padding):
        x, pads = F.pad(x, (padding[2], padding[3], padding[0], padding[1])), (0, 0)
    low, high = x_params.limits
    peak = max(high - x_params.zero_point, x_params.zero_point - low)
    acc = accumulate(x, weight, bias, peak, lambda x, w, b: F.conv2d(x, w, b, stride, pads, dilation, groups))
    return to_codes(acc.mul_(torch.from_numpy(multiplier).reshape(-1, 1, 1)), out, activation)


@integer
def conv_transpose2d(
    inputs: list[Tensor], params: Params, out: QuantParams, *, stride: Pair, padding: Pads, activation: str
) -> Tensor:
    """x int8 [N,I,H,W], weight int8 [O,I,kh,kw], bias int32 [O]: accumulated and rescaled as in `conv2d`.

    Source: XNNPACK src/operators/deconvolution-nhwc.c, src/qs8-qc8w-igemm.
    """
    x, weight, bias = inputs
    x_params, w_params = quantised(params[0]), quantised(params[1])
    multiplier = scale32(x_params) * np.array(w_params.scale, np.float32) / scale32(out)
    check_ratio(multiplier.max())

    def conv(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        b = torch.zeros(len(w), dtype=w.dtype) if b is None else b
        return ops.conv_transpose2d(x, w, b, stride=stride, padding=padding, activation="none")

    acc = accumulate(centred(x, x_params), weight, bias, 255, conv)
    return to_codes(acc.mul_(torch.from_numpy(multiplier).reshape(-1, 1, 1)), out, activation)


@integer
def linear(inputs: list[Tensor], params: Params, out: QuantParams, *, activation: str) -> Tensor:
    """x int8 [..., I], weight int8 [O, I], bias int32 [O]: the arithmetic of a 1x1 convolution."""
    x, weight, bias = inputs
    x_params, w_params = quantised(params[0]), quantised(params[1])
    y = conv2d(
        [x.reshape(-1, x.shape[-1], 1, 1), weight[:, :, None, None], bias],
        [x_params, w_params, None],
        out,
        stride=(1, 1),
        padding=(0, 0, 0, 0),
        dilation=(1, 1),
        groups=1,
        activation=activation,
    )
    return y.reshape(*x.shape[:-1], weight.shape[0])


def accumulate(x: Tensor, weight: Tensor, bias: Tensor, peak: int, conv: Conv) -> Tensor:
    """The int32 accumulator, exact, rounded once to float32 as the kernels do before they scale it.

    `x` holds float32 integers of at most `peak` in size. Where an output channel could exceed 2^24, the input
    channels are summed in parts that cannot, and the parts are added in float64.
    """
    load = weight.abs().sum((2, 3), dtype=torch.int64) * peak
    if int((load.sum(1) + bias.abs()).max()) < EXACT:
        return conv(x, weight.float(), bias.float())
    total = bias.double().reshape(-1, 1, 1)
    per_group = x.reshape(x.shape[0], -1, weight.shape[1], *x.shape[2:])
    for start, stop in _exact_runs(load):
        part, taps = per_group[:, :, start:stop].flatten(1, 2), weight[:, start:stop]
        exact = int(load[:, start:stop].sum(1).max()) < EXACT
        dtype = torch.float32 if exact else torch.float64
        total = total + conv(part.to(dtype), taps.to(dtype), None)
    return total.float()


def _exact_runs(load: Tensor) -> list[tuple[int, int]]:
    """Equal runs of input channels, as few as keep every output channel's `load` [O, C] below 2^24 in each run.

    A single channel can be too much (a large depthwise kernel): runs of one channel are then the answer.
    """
    channels = load.shape[1]
    for count in range(1, channels + 1):
        runs = torch.arange(channels).tensor_split(count)
        if all(int(load[:, run].sum(1).max()) < EXACT for run in runs):
            break
    return [(int(run[0]), int(run[-1]) + 1) for run in runs]


@integer
def matmul(inputs: list[Tensor], params: Params, out: QuantParams, *, transpose_b: bool) -> Tensor:
    """a int8 [..., M, K] @ b int8 [..., K, N] (or [..., N, K]); the zero point of b is 0.

    acc = sum((a - zero point)·b) as int32; code as in `conv2d`, with m = float32(float32(s_a·s_b) / s_y).
    Source: XNNPACK src/subgraph/batch-matrix-multiply.c, which refuses another zero point of b; src/qs8-qc8w-gemm.
    """
    a, b = inputs
    a_params, b_params = quantised(params[0]), quantised(params[1])
    if b_params.zero_point != 0:
        raise ValueError("the second operand of an int8 matmul has zero point 0")
    multiplier = scale32(a_params) * scale32(b_params) / scale32(out)
    check_ratio(multiplier)
    low, high = a_params.limits
    peak = max(high - a_params.zero_point, a_params.zero_point - low) * 128 * a.shape[-1]
    dtype = torch.float32 if peak < EXACT else torch.float64
    acc = torch.matmul(centred(a, a_params).to(dtype), (b.mT if transpose_b else b).to(dtype)).float()
    return to_codes(acc.mul_(float(multiplier)), out)
