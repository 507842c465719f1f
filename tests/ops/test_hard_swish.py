"""hard_swish: one op in float; in int8 three, which are one lookup table in XNNPACK. hardsigmoid is made of others."""

from __future__ import annotations

import pytest
import torch.nn.functional as F
from parity import check_float, check_int8, image
from torch import nn
from unary import INPUTS


@pytest.mark.parametrize("x", INPUTS)
def test_float(x):
    result = check_float(F.hardswish, x)
    assert result.ops == ["HARD_SWISH"]
    assert result.outside == ()


@pytest.mark.parametrize("x", INPUTS)
def test_int8(x):
    result = check_int8(F.hardswish, x)
    assert result.ops == ["ADD", "MUL", "MUL"]
    assert result.outside == ()


def test_int8_of_inputs_that_are_nearly_all_far_below_zero():
    """One step of the input is 35: the gate's scale is coarsened, or the runtime's factor would reach 256."""
    check_int8(F.hardswish, image(1, 3, 5, 7, low=-9000, high=-2.5), least=-100)


@pytest.mark.parametrize("check", [check_float, check_int8])
def test_a_hardsigmoid_gate_is_a_convolution_with_relu6_and_a_factor(check):
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return x * F.hardsigmoid(self.gate(x.mean((2, 3), keepdim=True)))

    result = check(Gated(), image(1, 3, 8, 8))
    assert [op for op in result.ops if op != "MEAN"] == ["CONV_2D", "MUL", "MUL"]
    assert result.outside == ()
