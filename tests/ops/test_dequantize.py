"""dequantize: codes to float at the graph's border, and into a float island."""

from __future__ import annotations

import pytest
import torch
from parity import check_int8, image
from torch import nn

MODELS = [
    pytest.param(lambda: nn.Conv2d(3, 8, 3), (1, 3, 8, 8), id="conv"),
    pytest.param(lambda: nn.Linear(9, 4), (2, 9), id="linear"),
    pytest.param(nn.Sigmoid, (1, 3, 5, 7), id="fixed-parameters"),
    pytest.param(nn.ReLU, (1, 3, 5, 7), id="zero-point-at-the-end"),
]


@pytest.mark.parametrize(("model", "shape"), MODELS)
def test_float_output(model, shape):
    result = check_int8(model(), image(*shape), io="float")
    assert (result.ops[0], result.ops[-1]) == ("QUANTIZE", "DEQUANTIZE")
    assert result.outputs[0].dtype == torch.float32


def test_into_a_float_island():
    result = check_int8(
        lambda a, b: torch.relu(a) / (torch.relu(b) + 1.0), image(1, 3, 5, 7), image(1, 3, 5, 7, seed=2)
    )
    assert result.ops == ["QUANTIZE", "QUANTIZE", "ADD", "DEQUANTIZE", "DEQUANTIZE", "DIV", "QUANTIZE"]
