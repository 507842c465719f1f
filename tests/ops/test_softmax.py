"""softmax: over any dimension; the last stored one needs no transpose."""

from __future__ import annotations

import pytest
import torch.nn.functional as F
from parity import check_float, check_int8, image
from torch import nn

CASES = [
    pytest.param((1, 10), -1, id="classes"),
    pytest.param((5, 10), 1, id="batch-5"),
    pytest.param((1, 1), 1, id="one-class"),
    pytest.param((2, 4, 6), -1, id="rank-3"),
    pytest.param((1, 7, 4, 5), 1, id="channels-of-a-map"),
    pytest.param((1, 100), 1, id="100-classes"),
]


@pytest.mark.parametrize(("shape", "dim"), CASES)
def test_float(shape, dim):
    assert check_float(lambda x: F.softmax(x, dim), image(*shape, low=-3, high=3)).ops == ["SOFTMAX"]


@pytest.mark.parametrize(("shape", "dim"), CASES)
def test_int8(shape, dim):
    result = check_int8(lambda x: F.softmax(x, dim), image(*shape, low=-3, high=3), least=18)
    assert result.ops == ["SOFTMAX"]


@pytest.mark.parametrize(
    ("low", "high"),
    [
        pytest.param(-90, 90, id="one-winner"),
        pytest.param(-0.1, 0.1, id="nearly-flat"),
        pytest.param(20, 40, id="all-large"),
    ],
)
@pytest.mark.parametrize("check", [check_float, check_int8])
def test_logits(check, low, high):
    check(nn.Softmax(-1), image(4, 10, low=low, high=high))


def test_int8_output_is_1_256_and_minus_128():
    (value,) = check_int8(nn.Softmax(-1), image(4, 10)).graph.outputs
    assert (value.quant.scale, value.quant.zero_point) == ((1 / 256,), -128)


OTHER_DIMS = [
    pytest.param((1, 7, 4, 5), 2, id="rows-of-a-map"),
    pytest.param((1, 7, 4, 5), 3, id="columns-of-a-map"),
    pytest.param((2, 4, 6), 1, id="rank-3"),
    pytest.param((4, 6), 0, id="rank-2"),
]


@pytest.mark.parametrize(("shape", "dim"), OTHER_DIMS)
@pytest.mark.parametrize("check", [check_float, check_int8])
def test_another_dim_changes_places_with_the_last_stored_one(check, shape, dim):
    result = check(lambda x: F.softmax(x, dim), image(*shape, low=-3, high=3))
    assert result.ops == ["TRANSPOSE", "SOFTMAX", "TRANSPOSE"]
