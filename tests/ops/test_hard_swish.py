"""hard_swish: 16-bit fixed point in LiteRT's builtin kernel."""

from __future__ import annotations

import pytest
import torch.nn.functional as F
from parity import check_float, check_int8, image
from unary import INPUTS


@pytest.mark.parametrize("x", INPUTS)
def test_float(x):
    assert check_float(F.hardswish, x).ops == ["HARD_SWISH"]


@pytest.mark.parametrize("x", INPUTS)
def test_int8(x):
    assert check_int8(F.hardswish, x).ops == ["HARD_SWISH"]


def test_int8_of_inputs_that_are_nearly_all_far_below_zero():
    """The output is 128 times finer than the input: LiteRT refuses that, so the output's scale is coarsened."""
    result = check_int8(F.hardswish, image(1, 3, 5, 7, low=-9000, high=-2.5), least=-100)
    assert result.graph.inputs[0].quant.scale[0] < 128 * result.graph.outputs[0].quant.scale[0]
