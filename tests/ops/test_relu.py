"""relu: an op of its own where it cannot be fused. In int8 a QUANTIZE against the ends of the codes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from parity import check_float, check_int8, image
from unary import INPUTS


@pytest.mark.parametrize("x", INPUTS)
def test_float(x):
    assert check_float(F.relu, x).ops == ["RELU"]


@pytest.mark.parametrize("x", INPUTS)
def test_int8(x):
    result = check_int8(F.relu, x)
    assert result.ops == ["QUANTIZE"]
    assert result.outside == ()


@pytest.mark.parametrize(("check", "ops"), [(check_float, ["MUL", "RELU"]), (check_int8, ["MUL", "QUANTIZE"])])
def test_a_result_that_others_read_keeps_its_relu(check, ops):
    def model(x):
        y = x * 0.5
        return F.relu(y), y

    assert check(model, INPUTS[0].values[0]).ops == ops


@pytest.mark.parametrize("clamp", [lambda x: x.clamp(min=0), lambda x: x.clamp_min(0)])
def test_clamps_at_zero_are_relu(clamp):
    assert check_float(clamp, INPUTS[0].values[0]).ops == ["RELU"]


def test_int8_within_a_concat_of_negative_values_still_clamps_at_zero():
    """Its parameters reach below zero there: the codes are shifted to the lower end and back."""

    def model(x):
        return torch.cat([F.relu(x), x * 0.7], 1)

    result = check_int8(model, image(1, 3, 5, 7, low=-4, high=4))
    assert sorted(result.ops) == ["CONCATENATION", "MUL", "QUANTIZE", "QUANTIZE"]
    assert result.outside == ()


def test_int8_of_a_result_128_times_finer_than_its_input():
    """Beyond that factor XNNPACK leaves QUANTIZE to the builtin kernel, with other arithmetic."""
    result = check_int8(F.relu, image(1, 3, 5, 7, low=-900, high=2), least=-100)
    assert result.graph.inputs[0].quant.scale[0] > 128 * result.graph.outputs[0].quant.scale[0]
