"""mean: any dims, kept or dropped; sum is count times mean."""

from __future__ import annotations

import pytest
import torch.nn.functional as F
from parity import check_float, check_int8, image
from torch import nn

GLOBAL = [
    pytest.param(lambda x: x.mean((2, 3), keepdim=True), (1, 3, 5, 7), id="kept"),
    pytest.param(lambda x: x.mean((2, 3)), (1, 3, 5, 7), id="dropped"),
    pytest.param(lambda x: x.mean((-1, -2), keepdim=True), (2, 3, 5, 7), id="negative-dims-batch-2"),
    pytest.param(nn.AdaptiveAvgPool2d(1), (1, 3, 5, 7), id="adaptive-to-one-pixel"),
]

CASES = [
    pytest.param(lambda x: x.mean(1, keepdim=True), (1, 3, 5, 7), ["MEAN"], id="channels"),
    pytest.param(lambda x: x.mean(1), (1, 3, 5, 7), ["MEAN"], id="channels-dropped"),
    pytest.param(lambda x: x.mean(3), (1, 3, 5, 7), ["MEAN"], id="columns-dropped"),
    pytest.param(lambda x: x.mean((1, 2, 3)), (2, 3, 5, 7), ["MEAN"], id="all-but-the-batch"),
    pytest.param(
        lambda x: F.max_pool2d(x, 2).mean(3), (1, 3, 6, 8), ["MAX_POOL_2D", "TRANSPOSE", "MEAN"], id="behind-a-pool"
    ),
    pytest.param(lambda x: x.mean(0, keepdim=True), (3, 2, 5, 7), ["MEAN"], id="batch"),
    pytest.param(lambda x: x.mean(-1), (4, 9), ["MEAN"], id="rank-2"),
    pytest.param(lambda x: x.mean(1), (2, 9, 5), ["MEAN"], id="rank-3"),
    pytest.param(lambda x: x.mean(), (4, 9), ["MEAN"], id="everything"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "shape", "ops"), CASES)
def test_float(model, shape, ops):
    assert check_float(model, image(*shape, high=2)).ops == ops


@pytest.mark.parametrize(("model", "shape", "ops"), CASES)
def test_int8(model, shape, ops):
    assert check_int8(model, image(*shape, high=2)).ops == ops


@pytest.mark.parametrize(("model", "shape"), GLOBAL)
def test_float_over_the_image(model, shape):
    """Rows first, then columns: the runtime adds floats one after the other, and long sums lose digits."""
    assert check_float(model, image(*shape, high=2)).ops == ["MEAN", "MEAN"]


@pytest.mark.parametrize(("model", "shape"), GLOBAL)
def test_int8_over_the_image(model, shape):
    assert check_int8(model, image(*shape, high=2)).ops == ["MEAN"]


def test_float_over_a_large_image():
    check_float(nn.AdaptiveAvgPool2d(1), image(1, 2, 256, 256, low=0, high=1))


@pytest.mark.parametrize("check", [check_float, check_int8])
@pytest.mark.parametrize("dims", [(2, 3), 1, (1, 2)])
def test_sum_is_count_times_mean(check, dims):
    result = check(lambda x: x.sum(dims, keepdim=True), image(1, 3, 5, 7, high=2))
    assert result.nodes == ["mean", "mul"]


@pytest.mark.parametrize(
    ("low", "high"),
    [pytest.param(0, 1, id="positive"), pytest.param(-9, -4, id="negative"), pytest.param(-200, 500, id="wide")],
)
def test_int8_ranges(low, high):
    check_int8(lambda x: x.mean((2, 3)), image(1, 8, 16, 16, low=low, high=high))


LONG = [
    pytest.param((1, 8192), 1, False, id="8192-elements"),
    pytest.param((1, 8193), 1, True, id="8193-elements"),
    pytest.param((1, 2, 128, 128), (2, 3), False, id="16384-pixels"),
    pytest.param((1, 8200, 1, 2), 1, True, id="8200-channels"),
]


@pytest.mark.parametrize(("shape", "dims", "stays_float"), LONG)
def test_int8_sums_that_would_overflow_are_float_islands(shape, dims, stays_float):
    """XNNPACK adds int8 codes of the innermost axis in int16."""
    result = check_int8(lambda x: x.mean(dims, keepdim=True), image(*shape, low=0.5, high=1))
    assert bool(result.islands) == stays_float
