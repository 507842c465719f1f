"""Other names for moving, splitting and repeating axes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from exporter.capture.aten.shape import cat, permute, select, slice_, transpose, view
from exporter.capture.aten.table import Builder, Unsupported, aten, dim_of
from exporter.ir.graph import Value

MOST_RUNS = 32
"""Slices that an index along pixels may take."""


@aten("swapaxes", "swapdims")
def swapaxes(b: Builder, x: Value, axis0: int, axis1: int) -> Value:
    return transpose(b, x, axis0, axis1)


@aten("mT", "matrix_H", "adjoint")
def matrix_transpose(b: Builder, x: Value) -> Value:
    return transpose(b, x, -2, -1)


@aten("numpy_T")
def numpy_t(b: Builder, x: Value) -> Value:
    return permute(b, x, list(reversed(range(len(x.shape)))))


@aten("movedim", "moveaxis")
def movedim(b: Builder, x: Value, source: int | Sequence[int], destination: int | Sequence[int]) -> Value:
    sources = [dim_of(d, x) for d in ([source] if isinstance(source, int) else source)]
    targets = [dim_of(d, x) for d in ([destination] if isinstance(destination, int) else destination)]
    rest = iter(d for d in range(len(x.shape)) if d not in sources)
    moved = dict(zip(targets, sources, strict=True))
    return permute(b, x, [moved[d] if d in moved else next(rest) for d in range(len(x.shape))])


@aten("unflatten")
def unflatten(b: Builder, x: Value, dim: int, sizes: Sequence[int]) -> Value:
    return view(b, x, torch.empty(x.shape, device="meta").unflatten(dim, tuple(sizes)).shape)


@aten("unbind")
def unbind(b: Builder, x: Value, dim: int = 0) -> list[Value]:
    return [select(b, x, dim, index) for index in range(x.shape[dim_of(dim, x)])]


@aten("repeat", "tile")
def repeat(b: Builder, x: Value, repeats: Sequence[int]) -> Value:
    """A concat of copies, one dim after the other."""
    rank = max(len(x.shape), len(repeats))
    counts = [1] * (rank - len(repeats)) + list(repeats)
    if rank > len(x.shape):
        x = view(b, x, [1] * (rank - len(x.shape)) + list(x.shape))
    for dim, count in enumerate(counts):
        if count == 0:
            raise Unsupported("repeat to an empty tensor")
        x = cat(b, [x] * count, dim) if count > 1 else x
    return x


@aten("roll")
def roll(b: Builder, x: Value, shifts: Sequence[int] | int, dims: Sequence[int] | int = ()) -> Value:
    """The two parts of each dim change places."""
    shifts, dims = ([n] if isinstance(n, int) else list(n) for n in (shifts, dims))
    if len(shifts) != len(dims):
        raise Unsupported("roll of the flattened tensor: give dims")
    for shift, dim in zip(shifts, dims, strict=True):
        size = x.shape[dim_of(dim, x)]
        if at := -shift % size:
            x = cat(b, [slice_(b, x, dim, at, size), slice_(b, x, dim, 0, at)], dim)
    return x


@aten("flip")
def flip(b: Builder, x: Value, dims: Sequence[int]) -> Value:
    for dim in dims:
        x = picked(b, x, dim, list(reversed(range(x.shape[dim_of(dim, x)]))))
    return x


@aten("index_select")
def index_select(b: Builder, x: Value, dim: int, index: Value) -> Value:
    if index.const is None:
        raise Unsupported("the index is computed from the input")
    return picked(b, x, dim, index.const.reshape(-1).tolist())


@aten("index")
def index_(b: Builder, x: Value, indices: Sequence[Value | None]) -> Value:
    """A list of places along one dim."""
    chosen = [(dim, index) for dim, index in enumerate(indices) if index is not None]
    ((dim, index), *others) = chosen
    if others or index.const is None or len(index.shape) != 1:
        raise Unsupported("only a constant list of places along one dim")
    places = index.const.nonzero().flatten() if index.const.dtype is torch.bool else index.const
    return picked(b, x, dim, places.tolist())


def picked(b: Builder, x: Value, dim: int, places: Sequence[int]) -> Value:
    """The slices at `places`, joined: channels of maps in one op, the rest in runs of neighbours."""
    dim = dim_of(dim, x)
    places = [place % x.shape[dim] for place in places]
    if dim == 1 and len(x.shape) == 4:
        return b.emit("gather_channels", x, channels=tuple(places))
    runs: list[list[int]] = []
    for place in places:
        if runs and runs[-1][-1] + 1 == place:
            runs[-1].append(place)
        else:
            runs.append([place])
    if len(runs) > MOST_RUNS:
        raise Unsupported(f"{len(runs)} runs of neighbours: no format moves them well")
    return cat(b, [slice_(b, x, dim, run[0], run[-1] + 1) for run in runs], dim)
