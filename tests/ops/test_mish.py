"""mish: seven ops in float; in int8 a chain that is one lookup table in XNNPACK."""

from __future__ import annotations

import pytest
import torch.nn.functional as F
from parity import check_float, check_int8, image
from unary import INPUTS

from exporter.ir.run import Interpreter


@pytest.mark.parametrize("x", INPUTS)
def test_float(x):
    result = check_float(F.mish, x)
    assert result.ops == ["MINIMUM", "EXP", "ADD", "MUL", "ADD", "DIV", "MUL"]
    assert result.outside == ()


def test_float_of_large_values():
    check_float(F.mish, image(1, 3, 5, 7, low=-200, high=200))


@pytest.mark.parametrize("x", INPUTS)
def test_int8(x):
    result = check_int8(F.mish, x, least=28)  # of [-7, 0.3]: the sigmoid's 1/256 times 7 is five codes of the result
    assert result.ops == ["MUL", "ADD", "MUL", "ADD", "MUL", "ADD", "LOGISTIC", "MUL"]
    assert result.outside == ()


@pytest.mark.parametrize(("low", "high"), [(-2, 2), (-4, 4), (-10, 10), (-3, 8), (-20, 15), (0, 6)])
def test_int8_is_within_two_codes_of_the_real_function(low, high):
    x = image(1, 1, 1, 4000, low=low, high=high)
    graph = check_int8(F.mish, x).graph
    codes = graph.inputs[0].quant.quantize(x)
    out = graph.outputs[0].quant
    (ours,) = Interpreter(graph).run([codes])
    exact = out.quantize(F.mish(graph.inputs[0].quant.dequantize(codes)))
    assert int((ours.int() - exact.int()).abs().max()) <= 2
