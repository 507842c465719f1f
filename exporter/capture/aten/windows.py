"""Pools and reductions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exporter.capture.aten.arithmetic import minimum, mul
from exporter.capture.aten.shape import slice_
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
    if kernel[0] * kernel[1] <= 25 or 1 in kernel:
        return b.emit("avg_pool2d", x, kernel=kernel, stride=stride, padding=padding)
    down, across = (*padding[:2], 0, 0), (0, 0, *padding[2:])
    rows = b.emit("avg_pool2d", x, kernel=(kernel[0], 1), stride=(stride[0], 1), padding=down)
    return b.emit("avg_pool2d", rows, kernel=(1, kernel[1]), stride=(1, stride[1]), padding=across)


@aten("adaptive_avg_pool2d", "_adaptive_avg_pool2d")
def adaptive_avg_pool2d(b: Builder, x: Value, output_size: Any) -> Value:
    """To 1x1 it is a mean (DESIGN.md §3, trap 6)."""
    out = _adaptive_size(x, output_size)
    if out == (1, 1):
        return b.emit("mean", x, dims=(2, 3), keepdim=True)
    return _adaptive(b, x, out, lambda x, kernel, stride: _average(b, x, kernel, stride, NO_PADS))


@aten("adaptive_max_pool2d")
def adaptive_max_pool2d(b: Builder, x: Value, output_size: Any) -> list[Value | None]:
    out = _adaptive_size(x, output_size)
    if out == (1, 1):
        return [b.emit("amax", x, dims=(2, 3), keepdim=True), None]

    def pool(x: Value, kernel: Pair, stride: Pair) -> Value:
        return b.emit("max_pool2d", x, kernel=kernel, stride=stride, padding=NO_PADS)

    return [_adaptive(b, x, out, pool), None]


def _adaptive_size(x: Value, output_size: Any) -> Pair:
    require_batch(x)
    rows, columns = pair(output_size)
    return x.shape[2] if rows is None else rows, x.shape[3] if columns is None else columns


def _adaptive(b: Builder, x: Value, out: Pair, pool: Callable[[Value, Pair, Pair], Value]) -> Value:
    """An ordinary pool where all windows are alike, as whole ratios are and 7 to 3; else each window by itself."""
    windows = [
        [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]
        for size, count in zip(x.shape[2:], out, strict=True)
    ]
    (kh, sh), (kw, sw) = (_alike(axis) or (0, 0) for axis in windows)
    if kh and kw:
        return pool(x, (kh, kw), (sh, sw))
    for dim, axis in ((2, windows[0]), (3, windows[1])):
        lone = (slice_(b, x, dim, start, end) for start, end in axis)
        parts = [pool(part, size := _along(part, dim), size) for part in lone]
        x = b.emit("concat", *parts, dim=dim)
    return x


def _alike(windows: list[Pair]) -> Pair | None:
    """Kernel and stride of windows that are all as wide and as far apart as the first two."""
    kernel = windows[0][1]
    stride = windows[1][0] if len(windows) > 1 else kernel
    alike = all((start, end) == (i * stride, i * stride + kernel) for i, (start, end) in enumerate(windows))
    return (kernel, stride) if alike else None


def _along(x: Value, dim: int) -> Pair:
    return (x.shape[2], 1) if dim == 2 else (1, x.shape[3])


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


@aten("amax")
def amax(b: Builder, x: Value, dim: Any = (), keepdim: bool = False) -> Value:
    dims = (dim,) if isinstance(dim, int) else tuple(dim) or tuple(range(len(x.shape)))
    return b.emit("amax", x, dims=tuple(sorted(dim_of(d, x) for d in dims)), keepdim=keepdim)


@aten("amin")
def amin(b: Builder, x: Value, dim: Any = (), keepdim: bool = False) -> Value:
    return mul(b, amax(b, mul(b, x, -1.0), dim, keepdim), -1.0)


@aten("max")
def max_(b: Builder, x: Value, dim: Any = None, keepdim: bool = False) -> Value | list[Value | None]:
    """Of all elements, of two tensors, or along a dim: a reader of the indices fails at its own line."""
    if isinstance(dim, Value):
        return b.emit("maximum", x, dim)
    return amax(b, x) if dim is None else [amax(b, x, dim, keepdim), None]


@aten("min")
def min_(b: Builder, x: Value, dim: Any = None, keepdim: bool = False) -> Value | list[Value | None]:
    """Of all elements, of two tensors, or along a dim: a reader of the indices fails at its own line."""
    if isinstance(dim, Value):
        return minimum(b, x, dim)
    return amin(b, x) if dim is None else [amin(b, x, dim, keepdim), None]
