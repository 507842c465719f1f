"""rsqrt: in int8 on TFLite's own kernel."""

from __future__ import annotations

import pytest
import torch
from parity import check_float, check_int8, image

SHAPES = [(1, 3, 5, 7), (2, 4, 9), (4, 9)]
RANGES = [pytest.param(0.5, 4, id="positive"), pytest.param(0.1, 0.2, id="narrow"), pytest.param(20, 900, id="wide")]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("low", "high"), RANGES)
def test_float(shape, low, high):
    assert check_float(torch.rsqrt, image(*shape, low=low, high=high)).ops == ["RSQRT"]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("low", "high"), RANGES)
def test_int8(shape, low, high):
    assert check_int8(torch.rsqrt, image(*shape, low=low, high=high)).ops == ["RSQRT"]
