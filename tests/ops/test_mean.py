"""mean: any dims, kept or dropped; sum is count times mean."""

from __future__ import annotations

import pytest
from parity import check_float, check_int8, image
from torch import nn

CASES = [
    pytest.param(lambda x: x.mean((2, 3), keepdim=True), (1, 3, 5, 7), ["MEAN"], id="global-pool"),
    pytest.param(lambda x: x.mean((2, 3)), (1, 3, 5, 7), ["MEAN"], id="global-pool-dropped"),
    pytest.param(nn.AdaptiveAvgPool2d(1), (1, 3, 5, 7), ["MEAN"], id="adaptive-to-one-pixel"),
    pytest.param(lambda x: x.mean((-1, -2), keepdim=True), (2, 3, 5, 7), ["MEAN"], id="negative-dims-batch-2"),
    pytest.param(lambda x: x.mean(1, keepdim=True), (1, 3, 5, 7), ["MEAN"], id="channels"),
    pytest.param(lambda x: x.mean(1), (1, 3, 5, 7), ["TRANSPOSE", "MEAN"], id="channels-dropped"),
    pytest.param(lambda x: x.mean(3), (1, 3, 5, 7), ["TRANSPOSE", "MEAN"], id="columns-dropped"),
    pytest.param(lambda x: x.mean((1, 2, 3)), (2, 3, 5, 7), ["TRANSPOSE", "MEAN"], id="all-but-the-batch"),
    pytest.param(lambda x: x.mean(0, keepdim=True), (3, 2, 5, 7), ["MEAN"], id="batch"),
    pytest.param(lambda x: x.mean(-1), (4, 9), ["MEAN"], id="rank-2"),
    pytest.param(lambda x: x.mean(1), (2, 9, 5), ["MEAN"], id="rank-3"),
    pytest.param(lambda x: x.mean(), (4, 9), ["MEAN"], id="everything"),
    pytest.param(lambda x: x.sum((2, 3), keepdim=True), (1, 3, 5, 7), ["MEAN", "MUL"], id="sum"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "shape", "ops"), CASES)
def test_float(model, shape, ops):
    assert check_float(model, image(*shape, high=2)).ops == ops


@pytest.mark.parametrize(("model", "shape", "ops"), CASES)
def test_int8(model, shape, ops):
    assert check_int8(model, image(*shape, high=2)).ops == ops


@pytest.mark.parametrize(("low", "high"), [pytest.param(0, 1, id="positive"), pytest.param(-9, -4, id="negative"), pytest.param(-200, 500, id="wide")])
def test_int8_ranges(low, high):
    check_int8(lambda x: x.mean((2, 3)), image(1, 8, 16, 16, low=low, high=high))
