"""Resizing, and pixels moved between channels and space."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from exporter.capture.aten.table import Builder, Unsupported, aten, pair, require_batch
from exporter.ir.graph import Value


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


@aten("pixel_shuffle")
def pixel_shuffle(b: Builder, x: Value, upscale_factor: int) -> Value:
    """torch has the channels as C*r*r, the formats (depth_to_space) as r*r*C."""
    require_batch(x)
    order = torch.arange(x.shape[1]).reshape(-1, upscale_factor**2).t()
    moved = b.emit("gather_channels", x, channels=tuple(order.flatten().tolist()))
    return b.emit("depth_to_space", moved, block=upscale_factor)


@aten("pixel_unshuffle")
def pixel_unshuffle(b: Builder, x: Value, downscale_factor: int) -> Value:
    require_batch(x)
    moved = b.emit("space_to_depth", x, block=downscale_factor)
    order = torch.arange(moved.shape[1]).reshape(downscale_factor**2, -1).t()
    return b.emit("gather_channels", moved, channels=tuple(order.flatten().tolist()))
