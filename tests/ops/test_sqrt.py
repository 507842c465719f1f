"""sqrt: in int8 on TFLite's own kernel."""

from __future__ import annotations

import pytest
import torch
from parity import check_float, check_int8, image

SHAPES = [(1, 3, 5, 7), (2, 4, 9), (4, 9)]
RANGES = [pytest.param(0.1, 4, id="positive"), pytest.param(0, 0.2, id="narrow"), pytest.param(1, 900, id="wide")]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("low", "high"), RANGES)
def test_float(shape, low, high):
    assert check_float(torch.sqrt, image(*shape, low=low, high=high)).ops == ["SQRT"]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("low", "high"), RANGES)
def test_int8(shape, low, high):
    assert check_int8(torch.sqrt, image(*shape, low=low, high=high)).ops == ["SQRT"]


def test_a_power_of_one_half_is_a_root():
    assert check_float(lambda x: x**0.5, image(4, 9, low=1, high=2)).ops == ["SQRT"]
