"""Windows, reductions and resampling."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from exporter.capture.aten.arithmetic import mul
from exporter.capture.aten.table import Builder, Unsupported, aten, dim_of, pair, refuse_other_dtype, require_batch
from exporter.ir.graph import Value


@aten("max_pool2d")
def max_pool2d(
    b: Builder, x: Value, kernel_size: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil: bool = False
) -> Value:
    require_batch(x)
    ph, pw = pair(padding)
    if ceil or pair(dilation) != (1, 1):
        raise Unsupported("ceil_mode or dilation")
    kernel = pair(kernel_size)
    return b.emit("max_pool2d", x, kernel=kernel, stride=pair(stride or kernel), padding=(ph, ph, pw, pw))


@aten("max_pool2d_with_indices")
def max_pool2d_with_indices(b: Builder, x: Value, *args: Any, **kwargs: Any) -> list[Value | None]:
    """Only the pooled tensor is kept; a reader of the indices fails at its own line."""
    return [max_pool2d(b, x, *args, **kwargs), None]


@aten("avg_pool2d")
def avg_pool2d(
    b: Builder, x: Value, kernel_size: Any, stride: Any = (), padding: Any = 0, ceil: bool = False,
    count_include_pad: bool = True, divisor: int | None = None,
) -> Value:  # fmt: skip
    require_batch(x)
    ph, pw = pair(padding)
    if ceil or divisor is not None:
        raise Unsupported("ceil_mode or divisor_override")
    if count_include_pad and (ph or pw):
        x = b.emit("pad", x, before=(0, 0, ph, pw), after=(0, 0, ph, pw), value=0.0)
        ph = pw = 0
    kernel = pair(kernel_size)
    return b.emit("avg_pool2d", x, kernel=kernel, stride=pair(stride or kernel), padding=(ph, ph, pw, pw))


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
    return b.emit("avg_pool2d", x, kernel=ratio, stride=ratio, padding=(0, 0, 0, 0))


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
