"""Ops that move numbers, or choose among them: every one of the result is one of an operand's."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from exporter.verify.runtimes.mil_reference.ops.registry import mil


@mil(exact=True)
def reshape(x: Tensor, shape: list[int]) -> Tensor:
    """-1 takes what is left; 0 keeps the axis of x that is as far from the last one (1 where x has none)."""
    ahead = len(shape) - x.dim()
    kept = [1] * ahead + list(x.shape) if ahead > 0 else list(x.shape)[-ahead:]
    return x.reshape([old if new == 0 else new for new, old in zip(shape, kept, strict=True)])


@mil(exact=True)
def transpose(x: Tensor, perm: list[int]) -> Tensor:
    """Axis `perm[i]` of x becomes axis i."""
    return x.permute(perm)


@mil(exact=True)
def expand_dims(x: Tensor, axes: list[int]) -> Tensor:
    """`axes` count in the result."""
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


@mil(exact=True)
def squeeze(x: Tensor, axes: list[int] | None = None) -> Tensor:
    """Without `axes`, all of one element."""
    return x.squeeze() if axes is None else x.squeeze(axes)


@mil(exact=True)
def flatten2d(x: Tensor, axis: int = 1) -> Tensor:
    """Two axes: those before `axis`, and the others."""
    return x.reshape(math.prod(x.shape[:axis]), -1)


@mil(exact=True)
def shape(x: Tensor) -> Tensor:
    """One number per axis."""
    return torch.tensor(x.shape, dtype=torch.int32)


@mil(exact=True)
def concat(values: list[Tensor], axis: int, interleave: bool = False) -> Tensor:
    """One after the other, or by turns."""
    if not interleave:
        return torch.cat(values, axis)
    axis = axis % values[0].dim()
    return torch.stack(values, axis + 1).flatten(axis, axis + 1)


@mil(exact=True)
def stack(values: list[Tensor], axis: int) -> Tensor:
    """Along a new axis."""
    return torch.stack(values, axis)


@mil(exact=True)
def split(
    x: Tensor, axis: int, num_splits: int | None = None, split_sizes: list[int] | None = None
) -> tuple[Tensor, ...]:
    """Into parts of these sizes, or into equal ones."""
    return x.split(split_sizes or x.shape[axis] // (num_splits or 1), axis)


@mil(exact=True)
def slice_by_index(
    x: Tensor, begin: list[int], end: list[int], stride: list[int] | None = None,
    begin_mask: list[bool] | None = None, end_mask: list[bool] | None = None, squeeze_mask: list[bool] | None = None,
) -> Tensor:  # fmt: skip
    """As numpy slices; a mask leaves its bound out, a squeezed axis keeps `begin` alone."""
    none = [False] * x.dim()
    masks = zip(begin_mask or none, end_mask or none, strict=True)
    bounds = zip(begin, end, stride or [1] * x.dim(), masks, strict=True)
    squeezed = squeeze_mask or none
    for axis, (first, last, step, (open_first, open_last)) in enumerate(bounds):
        if squeezed[axis]:
            x = x.narrow(axis, first % x.shape[axis], 1)
            continue
        chosen = range(x.shape[axis])[slice(None if open_first else first, None if open_last else last, step)]
        if step == 1:
            x = x.narrow(axis, chosen.start if len(chosen) else 0, len(chosen))
        else:
            x = x.index_select(axis, torch.tensor(list(chosen), dtype=torch.int64))
    return x.squeeze([axis for axis, gone in enumerate(squeezed) if gone])


@mil(exact=True)
def slice_by_size(x: Tensor, begin: list[int], size: list[int]) -> Tensor:
    """From `begin`; a size of -1 reaches to the end."""
    for axis, (first, count) in enumerate(zip(begin, size, strict=True)):
        start = first % x.shape[axis]
        x = x.narrow(axis, start, x.shape[axis] - start if count == -1 else count)
    return x


@mil(exact=True)
def reverse(x: Tensor, axes: list[int] | None = None) -> Tensor:
    """The other way round, along `axes` (all)."""
    return x.flip(list(range(x.dim())) if axes is None else axes)


@mil(exact=True)
def tile(x: Tensor, reps: list[int]) -> Tensor:
    """As numpy."""
    return x.tile(reps)


@mil(exact=True)
def fill(shape: list[int], value: Tensor) -> Tensor:
    """One number everywhere."""
    return value.expand(shape)


@mil(exact=True)
def gather(x: Tensor, indices: Tensor, axis: int = 0, batch_dims: int = 0, validate_indices: bool = False) -> Tensor:
    """Slices of x along `axis`, one for each index; negative ones count from the end.

    The first `batch_dims` axes of x and of the indices go together, as in TensorFlow's gather.
    """
    axis %= x.dim()
    wanted = torch.where(indices < 0, indices + x.shape[axis], indices).long()
    if not batch_dims:
        return x.index_select(axis, wanted.flatten()).reshape(*x.shape[:axis], *wanted.shape, *x.shape[axis + 1 :])
    together = x.shape[:batch_dims]
    rows = x.reshape(-1, *x.shape[batch_dims:])
    sets = wanted.reshape(rows.shape[0], *wanted.shape[batch_dims:])
    parts = [gather(row, chosen, axis - batch_dims) for row, chosen in zip(rows, sets, strict=True)]
    return torch.stack(parts).reshape(*together, *parts[0].shape)


@mil(exact=True)
def gather_along_axis(x: Tensor, indices: Tensor, axis: int = 0, validate_indices: bool = False) -> Tensor:
    """numpy's take_along_axis."""
    wanted = torch.where(indices < 0, indices + x.shape[axis], indices).long()
    return torch.take_along_dim(x, wanted, axis)


@mil(exact=True)
def pad(x: Tensor, pad: list[int], mode: str = "constant", constant_val: float = 0.0) -> Tensor:
    """`pad`: before and after, for the last axes of x."""
    pairs = list(zip(pad[::2], pad[1::2], strict=True))
    if mode == "constant":
        return F.pad(x, [n for pair in reversed(pairs) for n in pair], value=constant_val)
    for axis, (before, after) in enumerate(pairs, x.dim() - len(pairs)):
        size = x.shape[axis]
        places = torch.arange(-before, size + after)
        if mode == "reflect":
            places = size - 1 - (places.abs() - (size - 1)).abs()
        x = x.index_select(axis, places.clamp(0, size - 1)) if before or after else x
    return x


@mil(exact=True)
def pixel_shuffle(x: Tensor, upscale_factor: int) -> Tensor:
    """As torch's."""
    return F.pixel_shuffle(x, upscale_factor)


@mil(exact=True)
def pixel_unshuffle(x: Tensor, downscale_factor: int) -> Tensor:
    """As torch's."""
    return F.pixel_unshuffle(x, downscale_factor)


@mil(exact=True)
def depth_to_space(x: Tensor, block_size: int) -> Tensor:
    """The place in the block is the slow part of the channel (ReorganizeDataLayerParams in NeuralNetwork.proto)."""
    n, c, h, w = x.shape
    b = block_size
    return x.reshape(n, b, b, c // b**2, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // b**2, h * b, w * b)


@mil(exact=True)
def space_to_depth(x: Tensor, block_size: int) -> Tensor:
    """The way back from depth_to_space."""
    n, c, h, w = x.shape
    b = block_size
    return x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4).reshape(n, c * b**2, h // b, w // b)


@mil(exact=True)
def topk(
    x: Tensor, k: int = 1, axis: int = -1, ascending: bool = False, sort: bool = True, return_indices: bool = True,
    output_indices_dtype: str = "int32",
) -> tuple[Tensor, ...]:  # fmt: skip
    """The k largest (or smallest), and where they were; the earlier of equals first."""
    found = x.sort(dim=axis, descending=not ascending, stable=True)
    values, places = found.values.narrow(axis, 0, k), found.indices.narrow(axis, 0, k)
    return (values, places) if return_indices else (values,)
