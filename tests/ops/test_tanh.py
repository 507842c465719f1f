"""tanh: output parameters fixed by the specification."""

from __future__ import annotations

import pytest
import torch
from parity import check_float, check_int8
from unary import INPUTS


@pytest.mark.parametrize("x", INPUTS)
def test_float(x):
    assert check_float(torch.tanh, x).ops == ["TANH"]


@pytest.mark.parametrize("x", INPUTS)
def test_int8(x):
    assert check_int8(torch.tanh, x).ops == ["TANH"]


def test_int8_output_is_1_128_and_0():
    (value,) = check_int8(torch.tanh, INPUTS[0].values[0]).graph.outputs
    assert (value.quant.scale, value.quant.zero_point) == ((1 / 128,), 0)
