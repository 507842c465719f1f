"""Resizing of the last axes: which points of the input the sampling modes look at, and what lies between them.

Source of every formula: the notes on `resize_bilinear` and `upsample_bilinear` in the MIL definitions.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from exporter.errors import UnsupportedError
from exporter.verify.runtimes.mil_reference.ops.registry import mil


@lru_cache(maxsize=256)
def points(size: int, wanted: int, mode: str) -> Tensor:
    """Places in an axis of `size` elements that the `wanted` elements of the result are taken at, float64."""
    i = torch.arange(wanted, dtype=torch.float64)
    between = max(wanted - 1, 1)
    if mode == "ALIGN_CORNERS" and wanted == 1:
        places = (i + size - 1) / 2
    elif mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        places = i * (size - 1) / between
    elif mode == "DEFAULT":
        places = i * (size - size / wanted) / between
    elif mode == "OFFSET_CORNERS":
        delta = max(1, size - 1) / wanted
        places = delta / 2 + i * delta
    elif mode == "UNALIGN_CORNERS":
        places = (i + 0.5) * size / wanted - 0.5
    else:
        raise UnsupportedError(f"the reference executor knows no sampling mode {mode}")
    return places.clamp(0, size - 1)


def _linear(x: Tensor, axis: int, wanted: int, mode: str) -> Tensor:
    places = points(x.shape[axis], wanted, mode)
    low = places.floor().long()
    high = (low + 1).clamp(max=x.shape[axis] - 1)
    share = (places - low).float().reshape([-1 if d == axis % x.dim() else 1 for d in range(x.dim())])
    return torch.lerp(x.index_select(axis, low), x.index_select(axis, high), share)


def _nearest(x: Tensor, axis: int, wanted: int, centre: float = 0.0) -> Tensor:
    places = (torch.arange(wanted, dtype=torch.float64) + centre) * x.shape[axis] / wanted
    return x.index_select(axis, places.long())


def _scaled(size: int, factor: float) -> int:
    """The new size: the product in float32, as the definitions infer it (5 · 1.4 is 7 there), rounded down."""
    return int(np.float32(size) * np.float32(factor))


def _bilinear(x: Tensor, height: int, width: int, mode: str) -> Tensor:
    return _linear(_linear(x, -2, height, mode), -1, width, mode)


@mil(exact=True)
def upsample_nearest_neighbor(x: Tensor, scale_factor_height: float = 1, scale_factor_width: float = 1) -> Tensor:
    """Element i of the result is element floor(i · size / new size) of x, as in torch.

    The definition says so for whole factors alone; with others Core ML may round elsewhere.
    """
    height, width = _scaled(x.shape[-2], scale_factor_height), _scaled(x.shape[-1], scale_factor_width)
    if x.dim() == 4:
        return F.interpolate(x, size=(height, width))
    return _nearest(_nearest(x, -2, height), -1, width)


@mil(exact=True)
def resize_nearest_neighbor(x: Tensor, target_size_height: int, target_size_width: int) -> Tensor:
    """Element i of the result is element floor((i + 0.5) · size / new size) of x.

    The definition names no rounding; this is that of TensorFlow's resize with half-pixel centres, which coremltools
    converts to this op. With whole factors all rules agree.
    """
    return _nearest(_nearest(x, -2, target_size_height, 0.5), -1, target_size_width, 0.5)


@mil()
def upsample_bilinear(
    x: Tensor, scale_factor_height: float = 1, scale_factor_width: float = 1, align_corners: bool = True,
    half_pixel_centers: bool | None = None,
) -> Tensor:  # fmt: skip
    """By the sizes of the result, as torch with recompute_scale_factor; half pixels unless corners are aligned."""
    height, width = _scaled(x.shape[-2], scale_factor_height), _scaled(x.shape[-1], scale_factor_width)
    halves = not align_corners if half_pixel_centers is None else half_pixel_centers
    if align_corners and halves:
        raise UnsupportedError("upsample_bilinear with aligned corners and half pixels at once has no meaning")
    mode = "STRICT_ALIGN_CORNERS" if align_corners else "UNALIGN_CORNERS" if halves else "DEFAULT"
    return _bilinear(x, height, width, mode)


@mil()
def resize_bilinear(
    x: Tensor, target_size_height: int = 1, target_size_width: int = 1, sampling_mode: str = "DEFAULT"
) -> Tensor:
    """To this size."""
    return _bilinear(x, target_size_height, target_size_width, sampling_mode)


@mil()
def resize(
    x: Tensor, shape: list[int], resized_dims: int, interpolation_mode: str = "LINEAR", sampling_mode: str = "DEFAULT"
) -> Tensor:
    """The last `resized_dims` axes to the last sizes of `shape`; 0 keeps an axis (iOS 17)."""
    for axis in range(-resized_dims, 0):
        wanted = shape[axis] or x.shape[axis]
        if wanted == x.shape[axis] and sampling_mode != "OFFSET_CORNERS":
            continue
        if interpolation_mode == "LINEAR":
            x = _linear(x, axis, wanted, sampling_mode)
        elif wanted % x.shape[axis] == 0 and sampling_mode in ("DEFAULT", "UNALIGN_CORNERS"):
            x = _nearest(x, axis, wanted)
        else:
            raise UnsupportedError(
                f"resize to the nearest of {x.shape[axis]} -> {wanted} elements, {sampling_mode}",
                why="the definition does not say how a place between two elements is rounded",
            )
    return x
