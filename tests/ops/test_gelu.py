"""gelu: erf and tanh forms."""

from __future__ import annotations

import pytest
import torch.nn.functional as F
from parity import check_float, check_int8
from unary import INPUTS

FAR_BELOW_ZERO = 110.0
"""dB. Where x is far below zero, 1 + erf(x) cancels: float32 kernels lose the last bits of a tiny result."""


@pytest.mark.parametrize("x", INPUTS)
def test_float(x):
    assert check_float(F.gelu, x, least=FAR_BELOW_ZERO).ops == ["GELU"]


@pytest.mark.parametrize("x", INPUTS)
def test_int8(x):
    assert check_int8(F.gelu, x).ops == ["GELU"]


@pytest.mark.parametrize("x", INPUTS)
def test_float_tanh_form(x):
    assert check_float(lambda x: F.gelu(x, approximate="tanh"), x, least=FAR_BELOW_ZERO).ops == ["GELU"]


@pytest.mark.parametrize("x", INPUTS)
def test_int8_tanh_form(x):
    assert check_int8(lambda x: F.gelu(x, approximate="tanh"), x).ops == ["GELU"]
