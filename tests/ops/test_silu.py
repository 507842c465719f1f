"""silu: sigmoid and mul in the file; one lookup table in XNNPACK."""

from __future__ import annotations

import pytest
import torch.nn.functional as F
from parity import check_float, check_int8
from unary import INPUTS


@pytest.mark.parametrize("x", INPUTS)
def test_float(x):
    assert check_float(F.silu, x).ops == ["LOGISTIC", "MUL"]


@pytest.mark.parametrize("x", INPUTS)
def test_int8(x):
    assert check_int8(F.silu, x).ops == ["LOGISTIC", "MUL"]


def test_int8_has_a_sigmoid_that_others_can_read():
    """The table that XNNPACK makes of the pair must not take the sigmoid away from its other reader."""

    def model(x):
        gate = x.sigmoid()
        return x * gate, gate

    check_int8(model, INPUTS[0].values[0])


@pytest.mark.parametrize("product", [lambda x: x * x.sigmoid(), lambda x: x.sigmoid() * x])
def test_int8_written_as_a_product(product):
    assert check_int8(product, INPUTS[0].values[0]).ops == ["LOGISTIC", "MUL"]
