"""Other names for moving, splitting and repeating axes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from exporter.capture.aten.shape import cat, permute, select, slice_, transpose, view
from exporter.capture.aten.table import Builder, Unsupported, aten, dim_of
from exporter.ir.graph import Value


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
