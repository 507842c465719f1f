"""elu: a lookup table in XNNPACK."""

from __future__ import annotations

import pytest
import torch.nn.functional as F
from parity import check_float, check_int8, image
from unary import INPUTS


@pytest.mark.parametrize("x", INPUTS)
@pytest.mark.parametrize("check", [check_float, check_int8])
def test_elu(check, x):
    result = check(F.elu, x)
    assert result.ops == ["ELU"]
    assert result.outside == ()


@pytest.mark.parametrize(
    "act", [lambda x: F.elu(x, 0.5), F.selu, lambda x: F.celu(x, 2.0)], ids=["alpha", "selu", "celu"]
)
@pytest.mark.parametrize("check", [check_float, check_int8])
def test_factors_scale_the_two_parts(check, act):
    assert "ELU" in check(act, image(1, 3, 5, 7)).ops
