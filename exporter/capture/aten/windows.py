"""Windows, reductions and resampling."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from exporter.capture.aten.arithmetic import mul
from exporter.capture.aten.table import Builder, Unsupported, aten, dim_of, pair, refuse_other_dtype, require_batch
from exporter.ir.graph import Value
from exporter.ir.ops import Pads, Pair

NO_PADS: Pads = (0, 0, 0, 0)


@aten("max_pool2d")
def max_pool2d(
    b: Builder, x: Value, kernel_size: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil: bool = False
) -> Value:
    require_batch(x)
    if pair(dilation) != (1, 1):
        raise Unsupported("dilation")
    kernel, stride = pair(kernel_size), pair(stride or kernel_size)
    pads = _symmetric(padding)
    more = _overhang(x, kernel, stride, pads) if ceil else NO_PADS
    return b.emit("max_pool2d", x, kernel=kernel, stride=stride, padding=_sum(pads, more))


@aten("max_pool2d_with_indices")
def max_pool2d_with_indices(b: Builder, x: Value, *args: Any, **kwargs: Any) -> list[Value | None]:
    """Only the pooled tensor is kept; a reader of the indices fails at its own line."""
    return [max_pool2d(b, x, *args, **kwargs), None]


@aten("avg_pool2d")
def avg_pool2d(
    b: Builder, x: Value, kernel_size: Any, stride: Any = (), padding: Any = 0, ceil: bool = False,
    count_include_pad: bool = True, divisor: int | None = None,
) -> Value:  # fmt: skip
    """What `ceil_mode` adds is never counted; a divisor of the caller's own counts everything."""
    require_batch(x)
    kernel, stride, pads = pair(kernel_size), pair(stride or kernel_size), _symmetric(padding)
    more = _overhang(x, kernel, stride, pads) if ceil else NO_PADS
    if divisor is not None:
        x = _zero_padded(b, x, _sum(pads, more))
        return mul(b, _average(b, x, kernel, stride, NO_PADS), kernel[0] * kernel[1] / divisor)
    if count_include_pad:
        return _average(b, _zero_padded(b, x, pads), kernel, stride, more)
    return _average(b, x, kernel, stride, _sum(pads, more))


def _symmetric(padding: Any) -> Pads:
    ph, pw = pair(padding)
    return ph, ph, pw, pw


def _sum(a: Pads, b: Pads) -> Pads:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]


def _zero_padded(b: Builder, x: Value, pads: Pads) -> Value:
    top, bottom, left, right = pads
    return b.emit("pad", x, before=(0, 0, top, left), after=(0, 0, bottom, right), value=0.0) if any(pads) else x


def _overhang(x: Value, kernel: Pair, stride: Pair, pads: Pads) -> Pads:
    """What `ceil_mode` adds at the end: a last window that begins within the image or the padding before it."""
    ends = []
    for axis, before in ((0, pads[0]), (1, pads[2])):
        size, k, s = x.shape[2 + axis], kernel[axis], stride[axis]
        count = -(-(size + 2 * before - k) // s) + 1
        if (count - 1) * s >= size + before:
            count -= 1
        ends.append(max((count - 1) * s + k - size - 2 * before, 0))
    return 0, ends[0], 0, ends[1]


def _average(b: Builder, x: Value, kernel: Pair, stride: Pair, padding: Pads) -> Value:
    """Windows of more than 25 elements as rows, then columns: XNNPACK has no larger depthwise kernel.

    In int8 8x8 at stride 8 over 64x64x40 takes 0.46 ms in one piece.
    """
    if kernel[0] * kernel[1] <= 25 or 1 in kernel or any(padding):
        return b.emit("avg_pool2d", x, kernel=kernel, stride=stride, padding=padding)
    rows = b.emit("avg_pool2d", x, kernel=(kernel[0], 1), stride=(stride[0], 1), padding=padding)
    return b.emit("avg_pool2d", rows, kernel=(1, kernel[1]), stride=(1, stride[1]), padding=padding)


@aten("adaptive_avg_pool2d", "_adaptive_avg_pool2d")
def adaptive_avg_pool2d(b: Builder, x: Value, output_size: Any) -> Value:
    """To 1x1 it is a mean; whole ratios are an ordinary average pool (DESIGN.md §3, trap 6)."""
    require_batch(x)
    out = tuple(o if o is not None else n for o, n in zip(pair(output_size), x.shape[-2:], strict=True))
    if out == (1, 1):
        return b.emit("mean", x, dims=(2, 3), keepdim=True)
    ratio = (x.shape[-2] // out[0], x.shape[-1] // out[1])
    if (out[0] * ratio[0], out[1] * ratio[1]) != tuple(x.shape[-2:]):
        raise Unsupported(f"{list(x.shape[-2:])} to {list(out)} is not a whole ratio")
    return _average(b, x, ratio, ratio, NO_PADS)


@aten("mean")
def mean(b: Builder, x: Value, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Value:
    refuse_other_dtype(x, dtype)
    dims = tuple(range(len(x.shape))) if not dim and dim != 0 else (dim,) if isinstance(dim, int) else tuple(dim)
    return b.emit("mean", x, dims=tuple(sorted(dim_of(d, x) for d in dims)), keepdim=keepdim)


@aten("sum")
def sum_(b: Builder, x: Value, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Value:
    """count * mean: the one reduction that every format has in int8."""
    result = mean(b, x, dim, keepdim, dtype)
    return mul(b, result, float(x.numel // result.numel))


@aten("upsample_nearest2d")
def upsample_nearest2d(b: Builder, x: Value, size: Any = None, scales: Any = None, *_: Any) -> Value:
    target = _target_size(x, size, scales)
    if scales is not None and not all(map(_samples_by_size, x.shape[2:], scales, target)):
        raise Unsupported("a scale factor that samples other pixels than the ratio of the sizes: give the size instead")
    return b.emit("resize_nearest", x, size=target)


def _samples_by_size(size: int, scale: float, target: int) -> bool:
    """Whether PyTorch, which samples by the factor where one is given, picks the same pixels as by the sizes."""
    row = torch.arange(size, dtype=torch.float32).reshape(1, 1, size)
    return torch.equal(F.interpolate(row, scale_factor=scale), F.interpolate(row, target))


@aten("upsample_bilinear2d")
def upsample_bilinear2d(b: Builder, x: Value, size: Any, align_corners: bool, scales: Any = None, *_: Any) -> Value:
    target = _target_size(x, size, scales)
    if (
        not align_corners
        and scales is not None
        and any(n * s != t for n, s, t in zip(x.shape[2:], scales, target, strict=True))
    ):
        raise Unsupported("a scale factor that does not divide the size")
    return b.emit("resize_bilinear", x, size=target, align_corners=align_corners)


def _target_size(x: Value, size: Any, scales: Any) -> tuple[int, int]:
    if size is not None:
        return pair(size)
    return int(x.shape[2] * scales[0]), int(x.shape[3] * scales[1])
