"""gelu: erf and tanh forms."""

from __future__ import annotations

import pytest
import torch.nn.functional as F
from parity import check_float, check_int8
from unary import INPUTS


@pytest.mark.parametrize("x", INPUTS)
def test_float(x):
    assert check_float(F.gelu, x).ops == ["GELU"]


@pytest.mark.parametrize("x", INPUTS)
def test_int8(x):
    assert check_int8(F.gelu, x).ops == ["GELU"]


@pytest.mark.parametrize("x", INPUTS)
@pytest.mark.parametrize("check", [check_float, check_int8])
def test_tanh_form(check, x):
    assert check(lambda x: F.gelu(x, approximate="tanh"), x).ops == ["GELU"]
