"""exp: TFLite's builtin table in int8, XNNPACK in float."""

from __future__ import annotations

import pytest
import torch
from parity import check_float, check_int8, image

INPUTS = [
    pytest.param(image(1, 3, 5, 7, low=-4, high=2), id="both-signs"),
    pytest.param(image(1, 3, 5, 7, low=0, high=3), id="positive"),
    pytest.param(image(1, 3, 5, 7, low=-3, high=0), id="negative"),
    pytest.param(image(1, 3, 5, 7, low=-0.2, high=0.2), id="narrow"),
    pytest.param(image(2, 9, 4, low=-1, high=1), id="rank-3"),
]


@pytest.mark.parametrize("x", INPUTS)
def test_float(x):
    assert check_float(torch.exp, x).ops == ["EXP"]


@pytest.mark.parametrize("x", INPUTS)
def test_int8(x):
    assert check_int8(torch.exp, x).ops == ["EXP"]
