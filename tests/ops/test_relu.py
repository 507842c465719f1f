"""relu: an op of its own where it cannot be fused."""

from __future__ import annotations

import pytest
import torch.nn.functional as F
from parity import check_float, check_int8
from unary import INPUTS


@pytest.mark.parametrize("x", INPUTS)
def test_float(x):
    assert check_float(F.relu, x).ops == ["RELU"]


@pytest.mark.parametrize("x", INPUTS)
def test_int8(x):
    assert check_int8(F.relu, x).ops == ["RELU"]


@pytest.mark.parametrize("check", [check_float, check_int8])
def test_a_result_that_others_read_keeps_its_relu(check):
    def model(x):
        y = x * 0.5
        return F.relu(y), y

    assert check(model, INPUTS[0].values[0]).ops == ["MUL", "RELU"]


@pytest.mark.parametrize("clamp", [lambda x: x.clamp(min=0), lambda x: x.clamp_min(0)])
def test_clamps_at_zero_are_relu(clamp):
    assert check_float(clamp, INPUTS[0].values[0]).ops == ["RELU"]
