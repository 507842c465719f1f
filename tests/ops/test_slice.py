"""slice: ranges, steps, and what is made of them (select, split, chunk, narrow)."""

from __future__ import annotations

import pytest
import torch
from parity import check_float, check_int8, image

CASES = [
    pytest.param(lambda x: x[:, 1:3], (1, 4, 5, 7), ["SLICE"], id="channels"),
    pytest.param(lambda x: x[:, -2:], (1, 4, 5, 7), ["SLICE"], id="last-channels"),
    pytest.param(lambda x: x[:, :, 1:4, 2:-1], (1, 4, 5, 7), ["SLICE", "SLICE"], id="crop"),
    pytest.param(lambda x: x[..., ::2], (1, 4, 5, 7), ["STRIDED_SLICE"], id="step-2-odd-size"),
    pytest.param(lambda x: x[:, 1::3], (1, 8, 5, 7), ["STRIDED_SLICE"], id="step-3-channels"),
    pytest.param(lambda x: x[..., 1::2], (1, 4, 5, 8), ["RESHAPE", "SLICE", "RESHAPE"], id="step-2-even-size"),
    pytest.param(lambda x: x[:, 2::3], (2, 9, 5), ["RESHAPE", "SLICE", "RESHAPE"], id="step-3-rank-3"),
    pytest.param(lambda x: x[1:], (3, 4, 5, 7), ["SLICE"], id="batch"),
    pytest.param(lambda x: x[:, 1], (3, 4), ["SLICE", "RESHAPE"], id="select-rank-2"),
    pytest.param(lambda x: x[:, 1:3], (3, 4), ["SLICE"], id="rank-2"),
    pytest.param(lambda x: x[:, :, 2:], (3, 4, 5), ["SLICE"], id="rank-3"),
    pytest.param(lambda x: x.narrow(1, 1, 2), (1, 4, 5, 7), ["SLICE"], id="narrow"),
    pytest.param(lambda x: x.split([1, 3], 1), (1, 4, 5, 7), ["SLICE", "SLICE"], id="split-by-sizes"),
    pytest.param(lambda x: x.split(3, 1), (1, 4, 5, 7), ["SLICE", "SLICE"], id="split-with-a-rest"),
    pytest.param(lambda x: x.chunk(2, 1), (1, 5, 4, 4), ["SLICE", "SLICE"], id="chunk-odd-channels"),
    pytest.param(lambda x: x.split([1, 3], 1)[1], (1, 4, 5, 7), ["SLICE"], id="split-half-unused"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "shape", "ops"), CASES)
def test_float(model, shape, ops):
    assert check_float(model, image(*shape)).ops == ops


@pytest.mark.parametrize(("model", "shape", "ops"), CASES)
def test_int8(model, shape, ops):
    assert check_int8(model, image(*shape, high=2)).ops == ops


@pytest.mark.parametrize("check", [check_float, check_int8])
def test_space_to_depth_by_slicing(check):
    """YOLO's Focus: every second row and column, four times."""

    def focus(x):
        return torch.cat([x[..., i::2, j::2] for j in (0, 1) for i in (0, 1)], 1)

    assert check(focus, image(1, 3, 8, 8)).ops == ["SPACE_TO_DEPTH", "CONV_2D"]


@pytest.mark.parametrize("check", [check_float, check_int8])
def test_select_a_channel_of_a_map(check):
    check(lambda x: x[:, 2] * 2.0, image(1, 4, 5, 7))
