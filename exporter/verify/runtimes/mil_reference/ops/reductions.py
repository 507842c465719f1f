"""Ops that leave one number of many, along `axes` (all)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from exporter.verify.runtimes.mil_reference.ops.registry import mil

Reduce = Callable[[Tensor, list[int], bool], Tensor]


def _enter(name: str, reduce: Reduce, *, exact: bool = False) -> None:
    def run(x: Tensor, axes: list[int] | None = None, keep_dims: bool = False) -> Tensor:
        return reduce(x, list(range(x.dim())) if axes is None else axes, keep_dims)

    mil(name, exact=exact)(run)


_enter("reduce_mean", lambda x, axes, keep: x.mean(axes, keep))
_enter("reduce_sum", lambda x, axes, keep: x.sum(axes, keep))
_enter("reduce_max", lambda x, axes, keep: x.amax(axes, keep), exact=True)
_enter("reduce_min", lambda x, axes, keep: x.amin(axes, keep), exact=True)
_enter("reduce_l1_norm", lambda x, axes, keep: x.abs().sum(axes, keep))
_enter("reduce_l2_norm", lambda x, axes, keep: x.square().sum(axes, keep).sqrt())
_enter("reduce_sum_square", lambda x, axes, keep: x.square().sum(axes, keep))
_enter("reduce_log_sum_exp", lambda x, axes, keep: x.logsumexp(axes, keep))


@mil(exact=True)
def reduce_argmax(x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32") -> Tensor:
    """Where the largest is."""
    return torch.argmax(x, axis, keep_dims)


@mil(exact=True)
def reduce_argmin(x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32") -> Tensor:
    """Where the smallest is."""
    return torch.argmin(x, axis, keep_dims)


@mil()
def cumsum(x: Tensor, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Tensor:
    """Running sums; exclusive ones leave their own element out."""
    x = x.flip(axis) if reverse else x
    sums = x.cumsum(axis)
    sums = sums - x if exclusive else sums
    return sums.flip(axis) if reverse else sums
