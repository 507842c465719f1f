"""relu6: an op of its own where it cannot be fused. In int8 a QUANTIZE against the ends of the codes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from parity import check_float, check_int8, image
from unary import INPUTS


@pytest.mark.parametrize("x", INPUTS)
def test_float(x):
    assert check_float(F.relu6, x).ops == ["RELU6"]


@pytest.mark.parametrize("x", INPUTS)
def test_int8(x):
    result = check_int8(F.relu6, x)
    assert result.ops == ["QUANTIZE"]
    assert result.outside == ()


@pytest.mark.parametrize(
    "clamp", [lambda x: x.clamp(0, 6), lambda x: F.hardtanh(x, 0.0, 6.0), lambda x: F.hardtanh_(x, 0, 6)]
)
def test_clamps_to_0_and_6_are_relu6(clamp):
    assert check_float(clamp, INPUTS[2].values[0]).ops == ["RELU6"]


def test_int8_within_a_wider_concat_still_clamps_at_both_ends():
    def model(x):
        return torch.cat([F.relu6(x), x * 1.1], 1)

    result = check_int8(model, image(1, 3, 5, 7, low=-9, high=9))
    assert result.ops.count("QUANTIZE") == 3
    assert result.outside == ()
