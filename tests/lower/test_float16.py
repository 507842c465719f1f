"""float16 weights behind DEQUANTIZE: half the size, float32 arithmetic."""

from __future__ import annotations

import torch
from parity import check_float, image
from torch import nn


def model() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Conv2d(64, 32, 1))


X = image(1, 3, 12, 12)


def test_half_the_size_at_50_db():
    full, half = check_float(model(), X), check_float(model(), X, precision="float16", least=50)
    assert 0.5 < len(half.content) / len(full.content) < 0.53


def test_every_weight_is_dequantized_once():
    result = check_float(model(), X, precision="float16", least=50)
    halves = [op for op in result.file.ops if op.name == "DEQUANTIZE"]
    assert len(halves) == 6
    assert {result.file.tensors[op.inputs[0]].dtype for op in halves} == {"float16"}
    assert {op.version for op in halves} == {3}


def test_weights_that_two_layers_share_are_dequantized_once():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x):
            return self.conv(self.conv(x))

    assert check_float(Shared(), X, precision="float16", least=50).ops.count("DEQUANTIZE") == 2


def test_scalars_stay_float32():
    result = check_float(lambda x: x * 0.1 + 3.0, X, precision="float16", least=120)
    assert result.ops == ["MUL", "ADD"]
