"""Ops that move numbers: exact, against numpy and torch, and against coremltools' own value inference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from mil_programs import PRECISIONS, check, like, mb
from torch import Tensor
from torch.nn import functional as F

X = np.arange(2 * 12 * 4 * 6, dtype=np.float32).reshape(2, 12, 4, 6) / 8
Cases = dict[str, tuple[Callable[..., Any], Callable[[Tensor], Any]]]

CASES: Cases = {
    "reshape": (lambda x: mb.reshape(x=x, shape=[2, 3, -1]), lambda x: x.reshape(2, 3, -1)),
    "reshape that keeps": (lambda x: mb.reshape(x=x, shape=[0, 0, -1, 1]), lambda x: x.reshape(2, 12, 24, 1)),
    "transpose": (lambda x: mb.transpose(x=x, perm=[0, 2, 3, 1]), lambda x: x.permute(0, 2, 3, 1)),
    "transpose, negative": (lambda x: mb.transpose(x=x, perm=[0, -1, 1, 2]), lambda x: x.permute(0, 3, 1, 2)),
    "expand_dims": (
        lambda x: mb.expand_dims(
            x=mb.squeeze(x=mb.slice_by_size(x=x, begin=[0, 0, 0, 0], size=[1, 12, 4, 6]), axes=[0]), axes=[0, -1]
        ),
        lambda x: x[:1, ..., None],
    ),
    "squeeze": (
        lambda x: mb.squeeze(x=mb.reshape(x=x, shape=[1, 24, 1, 24]), axes=[0]),
        lambda x: x.reshape(24, 1, 24),
    ),
    "squeeze all": (lambda x: mb.squeeze(x=mb.reshape(x=x, shape=[1, 24, 1, 24])), lambda x: x.reshape(24, 24)),
    "flatten2d": (lambda x: mb.flatten2d(x=x, axis=2), lambda x: x.reshape(24, 24)),
    "concat": (lambda x: mb.concat(values=[x, x, x], axis=1), lambda x: torch.cat([x, x, x], 1)),
    "concat by turns": (
        lambda x: mb.concat(values=[x, mb.square(x=x)], axis=1, interleave=True),
        lambda x: torch.stack([x, x * x], 2).reshape(2, 24, 4, 6),
    ),
    "stack": (lambda x: mb.stack(values=[x, x], axis=-1), lambda x: torch.stack([x, x], -1)),
    "split": (lambda x: mb.split(x=x, num_splits=3, axis=1), lambda x: x.split(4, 1)),
    "split unevenly": (lambda x: mb.split(x=x, split_sizes=[2, 7, 3], axis=1), lambda x: x.split([2, 7, 3], 1)),
    "slice": (
        lambda x: mb.slice_by_index(x=x, begin=[0, 1, -3, 1], end=[1, 9, -1, 6], stride=[1, 3, 1, 2]),
        lambda x: x[:1, 1:9:3, -3:-1, 1:6:2],
    ),
    "slice with masks": (
        lambda x: mb.slice_by_index(
            x=x,
            begin=[1, 5, 2, 3],
            end=[2, 6, 3, 4],
            begin_mask=[False, True, False, False],
            end_mask=[False, False, True, False],
            squeeze_mask=[True, False, False, True],
        ),
        lambda x: x[1, :6, 2:, 3],
    ),
    "slice backwards": (
        lambda x: mb.slice_by_index(
            x=x,
            begin=[0, -1, 0, 4],
            end=[0, 0, 0, 1],
            stride=[1, -2, 1, -1],
            begin_mask=[True, False, True, False],
            end_mask=[True, True, True, False],
        ),
        lambda x: torch.from_numpy(x.numpy()[:, -1::-2, :, 4:1:-1].copy()),
    ),
    "slice_by_size": (
        lambda x: mb.slice_by_size(x=x, begin=[0, 3, 1, 2], size=[2, 4, -1, 3]),
        lambda x: x[:2, 3:7, 1:, 2:5],
    ),
    "reverse": (lambda x: mb.reverse(x=x, axes=[1, 3]), lambda x: x.flip(1, 3)),
    "tile": (lambda x: mb.tile(x=x, reps=[1, 2, 1, 3]), lambda x: x.tile(1, 2, 1, 3)),
    "gather": (
        lambda x: mb.gather(x=x, indices=np.array([[2, 0], [-1, 2]], np.int32), axis=1),
        lambda x: x[:, [[2, 0], [11, 2]]],
    ),
    "gather one": (lambda x: mb.gather(x=x, indices=np.int32(3), axis=-1), lambda x: x[..., 3]),
    "gather in batches": (
        lambda x: mb.gather(x=x, indices=np.array([[3, 1], [0, 2]], np.int32), axis=2, batch_dims=1),
        lambda x: torch.stack([x[0][:, [3, 1]], x[1][:, [0, 2]]]),
    ),
    "gather_along_axis": (
        lambda x: mb.gather_along_axis(
            x=x, indices=np.array([3, -1], np.int32).reshape(1, 1, 2, 1) * np.ones((2, 12, 2, 6), np.int32), axis=2
        ),
        lambda x: x[:, :, [3, -1]],
    ),
    "pad": (
        lambda x: mb.pad(x=x, pad=[0, 0, 0, 0, 1, 2, 3, 0], constant_val=like(x, 1.5)),
        lambda x: F.pad(x, [3, 0, 1, 2], value=1.5),
    ),
    "pad the last axes": (lambda x: mb.pad(x=x, pad=[1, 2, 3, 0]), lambda x: F.pad(x, [3, 0, 1, 2])),
    "pad, mirrored": (
        lambda x: mb.pad(x=x, pad=[1, 2, 3, 0], mode="reflect"),
        lambda x: F.pad(x, [3, 0, 1, 2], mode="reflect"),
    ),
    "pad, repeated": (
        lambda x: mb.pad(x=x, pad=[1, 2, 3, 0], mode="replicate"),
        lambda x: F.pad(x, [3, 0, 1, 2], mode="replicate"),
    ),
    "pixel_shuffle": (lambda x: mb.pixel_shuffle(x=x, upscale_factor=2), lambda x: F.pixel_shuffle(x, 2)),
    "pixel_unshuffle": (
        lambda x: mb.pixel_unshuffle(x=x, downscale_factor=np.uint32(2)),
        lambda x: F.pixel_unshuffle(x, 2),
    ),
    "there and back": (
        lambda x: mb.space_to_depth(x=mb.depth_to_space(x=x, block_size=2), block_size=2),
        lambda x: x,
    ),
    "topk": (lambda x: mb.topk(x=x, k=2, axis=1)[0], lambda x: x.topk(2, 1).values),
    "topk, places": (lambda x: mb.topk(x=x, k=2, axis=1, ascending=True)[1], lambda x: (-x).topk(2, 1).indices.int()),
    "reduce_max": (lambda x: mb.reduce_max(x=x, axes=[2, 3], keep_dims=True), lambda x: x.amax((2, 3), True)),
    "reduce_min": (lambda x: mb.reduce_min(x=x, axes=[1]), lambda x: x.amin(1)),
    "reduce_argmax": (lambda x: mb.reduce_argmax(x=x, axis=1), lambda x: x.argmax(1).int()),
    "reduce_argmin": (
        lambda x: mb.reduce_argmin(x=x, axis=3, keep_dims=True),
        lambda x: x.argmin(3, keepdim=True).int(),
    ),
}
SUMS: Cases = {
    "reduce_mean": (lambda x: mb.reduce_mean(x=x, axes=[2, 3], keep_dims=True), lambda x: x.mean((2, 3), True)),
    "reduce_mean of all": (lambda x: mb.reduce_mean(x=x), lambda x: x.mean()),
    "reduce_sum": (lambda x: mb.reduce_sum(x=x, axes=[-1]), lambda x: x.sum(-1)),
    "reduce_l1_norm": (lambda x: mb.reduce_l1_norm(x=x, axes=[1]), lambda x: x.abs().sum(1)),
    "reduce_l2_norm": (lambda x: mb.reduce_l2_norm(x=x, axes=[1]), lambda x: x.norm(dim=1)),
    "reduce_sum_square": (lambda x: mb.reduce_sum_square(x=x, axes=[3]), lambda x: x.square().sum(3)),
    "reduce_log_sum_exp": (lambda x: mb.reduce_log_sum_exp(x=x, axes=[3]), lambda x: x.exp().sum(3).log()),
    "cumsum": (lambda x: mb.cumsum(x=x, axis=3), lambda x: x.cumsum(3)),
    "cumsum, exclusive": (lambda x: mb.cumsum(x=x, axis=3, exclusive=True), lambda x: x.cumsum(3) - x),
    "cumsum, backwards": (lambda x: mb.cumsum(x=x, axis=3, reverse=True), lambda x: x.flip(3).cumsum(3).flip(3)),
}

NOT_INFERRED = ("concat by turns", "cumsum, exclusive")
"""coremltools 9.0 infers the one as if it were not interleaved, and raises a TypeError of its own for the other."""


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", CASES)
def test_moves(case: str, precision: str) -> None:
    """Every number of the operand is one of float16 too."""
    build, expected = CASES[case]
    check(build, expected, X, precision=precision, atol=0, infer=case not in NOT_INFERRED)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", SUMS)
def test_sums(case: str, precision: str) -> None:
    build, expected = SUMS[case]
    check(build, expected, X / 8, precision=precision, infer=case not in NOT_INFERRED)


def test_depth_to_space_is_apples_example() -> None:
    """The example in the comments on ReorganizeDataLayerParams in NeuralNetwork.proto."""
    x = np.arange(1, 17, dtype=np.float32).reshape(1, 8, 1, 2)
    result = [[[1, 5, 2, 6], [9, 13, 10, 14]], [[3, 7, 4, 8], [11, 15, 12, 16]]]
    check(lambda x: mb.depth_to_space(x=x, block_size=2), lambda _: torch.tensor([result]).float(), x)


def test_a_shape_that_is_computed() -> None:
    """`shape`, `slice_by_index` and `concat` of integers feed `reshape`."""

    def build(x: Any) -> Any:
        sizes = mb.shape(x=x)
        front = mb.slice_by_index(x=sizes, begin=[0], end=[2])
        return mb.reshape(x=x, shape=mb.concat(values=[front, np.array([-1], np.int32)], axis=0))

    check(build, lambda x: x.reshape(2, 12, 24), X)


def test_fill() -> None:
    check(lambda x: mb.add(x=x, y=mb.fill(shape=[4, 6], value=1.5)), lambda x: x + 1.5, X)
