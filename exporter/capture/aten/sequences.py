"""Pools of sequences: [N, C, L] is an image of one row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exporter.capture.aten.table import Builder, Unsupported, aten, pair
from exporter.capture.aten.windows import (
    adaptive_avg_pool2d,
    adaptive_max_pool2d,
    avg_pool2d,
    max_pool2d,
    mean,
)
from exporter.ir.graph import Value


def _rowwise(b: Builder, x: Value, pool: Callable[[Value], Any]) -> Any:
    """The pool of the image, each result a sequence again."""
    if len(x.shape) != 3:
        raise Unsupported(f"an input of rank {len(x.shape)}: only [N, C, L]")
    result = pool(b.emit("reshape", x, shape=(*x.shape[:2], 1, x.shape[2])))
    several = isinstance(result, list)
    back = [y and b.emit("reshape", y, shape=(*y.shape[:2], y.shape[3])) for y in (result if several else [result])]
    return back if several else back[0]


def _column(size: Any, row: int) -> tuple[int, int]:
    """A kernel, stride or padding along L as one of an image; () is none, as in torch."""
    return (row, pair(size)[0])


@aten("max_pool1d")
def max_pool1d(
    b: Builder, x: Value, kernel: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil: bool = False
) -> Value:
    steps, pads, apart = _column(stride or kernel, 1), _column(padding, 0), _column(dilation, 1)
    pooled: Value = _rowwise(b, x, lambda y: max_pool2d(b, y, _column(kernel, 1), steps, pads, apart, ceil))
    return pooled


@aten("max_pool1d_with_indices")
def max_pool1d_with_indices(b: Builder, x: Value, *args: Any, **kwargs: Any) -> list[Value | None]:
    return [max_pool1d(b, x, *args, **kwargs), None]


@aten("avg_pool1d")
def avg_pool1d(
    b: Builder, x: Value, kernel: Any, stride: Any = (), padding: Any = 0, ceil: bool = False, count_pad: bool = True
) -> Value:
    steps, pads = _column(stride or kernel, 1), _column(padding, 0)
    pooled: Value = _rowwise(b, x, lambda y: avg_pool2d(b, y, _column(kernel, 1), steps, pads, ceil, count_pad))
    return pooled


@aten("adaptive_avg_pool1d")
def adaptive_avg_pool1d(b: Builder, x: Value, output_size: Any) -> Value:
    """To one element it is a mean, of any rank."""
    if pair(output_size)[0] == 1:
        return mean(b, x, -1, True)
    pooled: Value = _rowwise(b, x, lambda y: adaptive_avg_pool2d(b, y, _column(output_size, 1)))
    return pooled


@aten("adaptive_max_pool1d")
def adaptive_max_pool1d(b: Builder, x: Value, output_size: Any) -> list[Value | None]:
    pooled: list[Value | None] = _rowwise(b, x, lambda y: adaptive_max_pool2d(b, y, _column(output_size, 1)))
    return pooled
