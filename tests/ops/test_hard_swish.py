"""hard_swish: 16-bit fixed point in LiteRT's builtin kernel."""

from __future__ import annotations

import pytest
import torch.nn.functional as F
from parity import check_float, check_int8
from unary import INPUTS


@pytest.mark.parametrize("x", INPUTS)
def test_float(x):
    assert check_float(F.hardswish, x).ops == ["HARD_SWISH"]


@pytest.mark.parametrize("x", INPUTS)
def test_int8(x):
    assert check_int8(F.hardswish, x).ops == ["HARD_SWISH"]
