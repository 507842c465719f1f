"""leaky_relu: slopes and ranges."""

from __future__ import annotations

import pytest
import torch.nn.functional as F
from parity import check_float, check_int8
from unary import INPUTS


@pytest.mark.parametrize("x", INPUTS)
def test_float(x):
    assert check_float(F.leaky_relu, x).ops == ["LEAKY_RELU"]


@pytest.mark.parametrize("x", INPUTS)
def test_int8(x):
    assert check_int8(F.leaky_relu, x).ops == ["LEAKY_RELU"]


@pytest.mark.parametrize("check", [check_float, check_int8])
@pytest.mark.parametrize("slope", [0.1, 0.2, 0.3, 1.5, -0.5, 0.001])
def test_slope(check, slope):
    check(lambda x: F.leaky_relu(x, slope), INPUTS[0].values[0])


def test_a_slope_of_zero_is_relu():
    assert check_float(lambda x: F.leaky_relu(x, 0.0), INPUTS[0].values[0]).ops == ["RELU"]
