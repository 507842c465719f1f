"""Ops that move elements and compute nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from exporter.capture.aten.table import Builder, Unsupported, aten, dim_of, require_batch
from exporter.ir.graph import Value


def _reshape(b: Builder, x: Value, shape: Sequence[int]) -> Value:
    return b.emit("reshape", x, shape=tuple(torch.empty(x.shape, device="meta").reshape(tuple(shape)).shape))


@aten("view", "reshape", "_unsafe_view")
def view(b: Builder, x: Value, shape: Sequence[int] | torch.dtype) -> Value:
    if isinstance(shape, torch.dtype):
        raise Unsupported(f"the bits read as {shape}")
    return _reshape(b, x, shape)


@aten("flatten")
def flatten(b: Builder, x: Value, start: int = 0, end: int = -1) -> Value:
    return _reshape(b, x, torch.empty(x.shape, device="meta").flatten(start, end).shape)


@aten("unsqueeze")
def unsqueeze(b: Builder, x: Value, dim: int) -> Value:
    return _reshape(b, x, torch.empty(x.shape, device="meta").unsqueeze(dim).shape)


@aten("squeeze")
def squeeze(b: Builder, x: Value, dim: Any = None) -> Value:
    empty = torch.empty(x.shape, device="meta")
    dims = tuple(dim) if isinstance(dim, (list, tuple)) else dim
    return _reshape(b, x, (empty.squeeze() if dims is None else empty.squeeze(dims)).shape)


@aten("permute")
def permute(b: Builder, x: Value, dims: Sequence[int]) -> Value:
    return b.emit("transpose", x, perm=tuple(dim_of(d, x) for d in dims))


@aten("transpose")
def transpose(b: Builder, x: Value, dim0: int, dim1: int) -> Value:
    perm = list(range(len(x.shape)))
    perm[dim0], perm[dim1] = perm[dim1], perm[dim0]
    return b.emit("transpose", x, perm=tuple(perm))


@aten("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(b: Builder, x: Value, groups: int) -> Value:
    """[N, groups, C / groups, H, W] with dims 1 and 2 swapped. Other spellings are recognised by simplify."""
    require_batch(x)
    channels = torch.arange(x.shape[1]).reshape(groups, -1).t().flatten().tolist()
    return b.emit("gather_channels", x, channels=tuple(channels))


@aten("t")
def t(b: Builder, x: Value) -> Value:
    return transpose(b, x, 0, 1) if len(x.shape) == 2 else x


@aten("cat")
def cat(b: Builder, xs: Sequence[Value], dim: int = 0) -> Value:
    kept = [x for x in xs if x.numel]
    return b.emit("concat", *kept, dim=dim_of(dim, kept[0]))


@aten("stack")
def stack(b: Builder, xs: Sequence[Value], dim: int = 0) -> Value:
    at = dim % (len(xs[0].shape) + 1)
    return cat(b, [unsqueeze(b, x, at) for x in xs], at)


@aten("slice")
def slice_(
    b: Builder, x: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Value:
    dim = dim_of(dim, x)
    first, last, _ = slice(start, end).indices(x.shape[dim])
    return b.emit("slice", x, dim=dim, start=first, end=last, step=step)


@aten("narrow")
def narrow(b: Builder, x: Value, dim: int, start: int, length: int) -> Value:
    return slice_(b, x, dim, start, start + length)


@aten("select")
def select(b: Builder, x: Value, dim: int, index: int) -> Value:
    dim = dim_of(dim, x)
    index %= x.shape[dim]
    return squeeze(b, slice_(b, x, dim, index, index + 1), dim)


@aten("split_with_sizes")
def split_with_sizes(b: Builder, x: Value, sizes: Sequence[int], dim: int = 0) -> list[Value]:
    """Slices; the unused ones are pruned."""
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [slice_(b, x, dim, end - size, end) for size, end in zip(sizes, ends, strict=True)]


@aten("split")
def split(b: Builder, x: Value, size: int | Sequence[int], dim: int = 0) -> list[Value]:
    if not isinstance(size, int):
        return split_with_sizes(b, x, size, dim)
    total = x.shape[dim_of(dim, x)]
    return split_with_sizes(b, x, [min(size, total - at) for at in range(0, total, size)], dim)


@aten("chunk")
def chunk(b: Builder, x: Value, chunks: int, dim: int = 0) -> list[Value]:
    return split(b, x, -(-x.shape[dim_of(dim, x)] // chunks), dim)


@aten("pad", "constant_pad_nd")
def pad(b: Builder, x: Value, widths: Sequence[int], mode: Any = "constant", value: float | None = None) -> Value:
    """`constant_pad_nd` has its value where `pad` has the mode."""
    if not isinstance(mode, str):
        mode, value = "constant", mode
    rank = len(x.shape)
    before, after = [0] * rank, [0] * rank
    for i in range(len(widths) // 2):
        before[rank - 1 - i], after[rank - 1 - i] = widths[2 * i], widths[2 * i + 1]
    for dim in range(rank):
        if before[dim] < 0 or after[dim] < 0:  # torch's way to crop
            x = slice_(b, x, dim, max(-before[dim], 0), x.shape[dim] - max(-after[dim], 0))
    before, after = [max(n, 0) for n in before], [max(n, 0) for n in after]
    if mode == "constant":
        return b.emit("pad", x, before=tuple(before), after=tuple(after), value=float(value or 0.0))
    if mode not in ("reflect", "replicate"):
        raise Unsupported(f"mode {mode!r}")
    for dim in range(rank):
        x = _bordered(b, x, dim, before[dim], after[dim], mode)
    return x


def _bordered(b: Builder, x: Value, dim: int, before: int, after: int, mode: str) -> Value:
    """The tensor between slices of its own: mirrored at the edge, or the edge repeated."""
    last = x.shape[dim] - 1
    first_part = [i if mode == "reflect" else 0 for i in range(before, 0, -1)]
    last_part = [last - i if mode == "reflect" else last for i in range(1, after + 1)]
    parts = [[slice_(b, x, dim, i, i + 1) for i in part] for part in (first_part, last_part)]
    return cat(b, [*parts[0], x, *parts[1]], dim)


@aten("reflection_pad1d", "reflection_pad2d")
def reflection_pad(b: Builder, x: Value, widths: Sequence[int]) -> Value:
    return pad(b, x, widths, "reflect")


@aten("replication_pad1d", "replication_pad2d")
def replication_pad(b: Builder, x: Value, widths: Sequence[int]) -> Value:
    return pad(b, x, widths, "replicate")


@aten("zeros_like", "new_zeros")
def zeros_like(b: Builder, x: Value, size: Sequence[int] | None = None, **_: Any) -> Value:
    return full_like(b, x, 0.0, size)


@aten("ones_like", "new_ones")
def ones_like(b: Builder, x: Value, size: Sequence[int] | None = None, **_: Any) -> Value:
    return full_like(b, x, 1.0, size)


@aten("full_like")
def full_like(b: Builder, x: Value, value: float, size: Sequence[int] | None = None, **_: Any) -> Value:
    """A constant: shapes are static."""
    return b.constant(torch.full(tuple(x.shape if size is None else size), float(value)))


@aten("new_full")
def new_full(b: Builder, x: Value, size: Sequence[int], value: float, **_: Any) -> Value:
    return full_like(b, x, value, size)


@aten("slice_scatter")
def slice_scatter(
    b: Builder, x: Value, src: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Value:
    """A slice replaced: concat of what lies before, the new part, and what lies behind."""
    dim = dim_of(dim, x)
    first, last, _ = slice(start, end).indices(x.shape[dim])
    if step != 1:
        raise Unsupported("a step in slice_scatter")
    parts = [slice_(b, x, dim, 0, first)] if first else []
    parts += [src, *([slice_(b, x, dim, last, x.shape[dim])] if last < x.shape[dim] else [])]
    return cat(b, parts, dim)


@aten("select_scatter")
def select_scatter(b: Builder, x: Value, src: Value, dim: int, index: int) -> Value:
    dim = dim_of(dim, x)
    index %= x.shape[dim]
    return slice_scatter(b, x, unsqueeze(b, src, dim), dim, index, index + 1)


@aten("fill")
def fill(b: Builder, x: Value, value: Value | float) -> Value:
    number = b.operand(value)
    if number.const is None:
        raise Unsupported("a value computed from the input")
    return b.constant(number.const.expand(x.shape).contiguous())


@aten("zero")
def zero(b: Builder, x: Value) -> Value:
    return fill(b, x, 0.0)


@aten("expand")
def expand(b: Builder, x: Value, size: Sequence[int], implicit: bool = False) -> Value:
    """A concat of copies; simplify drops those that only feed ops which broadcast by themselves."""
    lead = len(size) - len(x.shape)
    old = (1,) * lead + x.shape
    x = _reshape(b, x, old) if lead else x
    for dim, (n, wanted) in enumerate(zip(old, size, strict=True)):
        x = cat(b, [x] * wanted, dim) if wanted not in (n, -1) else x
    return x


@aten("expand_as")
def expand_as(b: Builder, x: Value, other: Value) -> Value:
    return expand(b, x, other.shape)


@aten("type_as")
def type_as(b: Builder, x: Value, other: Value) -> Value:
    return to(b, x, other.dtype)


@aten("copy")
def copy(b: Builder, x: Value, src: Value, non_blocking: bool = False) -> Value:
    if src.shape != x.shape:
        raise Unsupported("copy_ that broadcasts")
    return src


@aten("to", "_to_copy")
def to(b: Builder, x: Value, *args: Any, **kwargs: Any) -> Value:
    """A conversion to the dtype that the value has is noise; any other is not supported."""
    wanted = [a for a in (*args, *kwargs.values()) if isinstance(a, torch.dtype)]
    if wanted and wanted[0] is not x.dtype:
        raise Unsupported(f"conversion to {wanted[0]}")
    return x
