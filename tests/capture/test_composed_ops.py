"""ATen ops that are made of others: they compute what PyTorch does, in float and in int8."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from parity import check_float, check_int8, image
from torch import nn

X = image(1, 4, 6, 9, low=-2, high=3)

CASES = {
    "conv1d": (nn.Sequential(nn.Flatten(2), nn.Conv1d(4, 6, 3, 2, 1, dilation=2)), None),
    "conv1d, same": (nn.Sequential(nn.Flatten(2), nn.Conv1d(4, 4, 3, padding="same", groups=2)), None),
    "glu": (lambda x: F.glu(x, 1), ["SLICE", "LOGISTIC", "SLICE", "MUL"]),
    "prelu of one slope": (nn.PReLU(), ["LEAKY_RELU"]),
    "prelu": (nn.PReLU(4), None),
    "reflect": (lambda x: F.pad(x, (1, 2, 0, 1), mode="reflect"), None),
    "reflection pad": (nn.ReflectionPad2d(1), None),
    "replicate": (nn.ReplicationPad2d((1, 0, 2, 1)), None),
    "crop": (lambda x: F.pad(x, (-1, -2, 1, -1)), ["SLICE", "SLICE", "PAD"]),
    "ones_like": (lambda x: x + torch.ones_like(x), ["ADD"]),
    "zeros_like and cat": (lambda x: torch.cat([x, torch.zeros_like(x[:, :1])], 1), ["CONCATENATION"]),
    "full_like": (lambda x: x * torch.full_like(x, 0.5), ["MUL"]),
    "new_zeros": (lambda x: torch.cat([x, x.new_zeros(1, 1, 6, 9)], 1), ["CONCATENATION"]),
    "minimum": (lambda x: torch.minimum(x, x * -0.5), ["MUL", "SUB", "SUB"]),
    "amin": (lambda x: x.amin((2, 3)), None),
    "clip": (lambda x: x.clip(0, 6), None),
    "lerp": (lambda x: torch.lerp(x, x * x, 0.3), None),
    "addcmul": (lambda x: torch.addcmul(x, x, x, value=0.5), None),
    "elu with alpha": (lambda x: F.elu(x, 0.5), None),
    "selu": (F.selu, None),
    "celu": (lambda x: F.celu(x, 2.0), None),
    "channels by a list": (lambda x: x[:, [2, 0, 3]], ["CONV_2D"]),
    "rows by a list": (lambda x: x[:, :, [0, 1, 4]], ["SLICE", "SLICE", "CONCATENATION"]),
    "index_select": (lambda x: x.index_select(1, torch.tensor([1, 3])), None),
    "flipped channels": (lambda x: x.flip(1), ["CONV_2D"]),
    "mirrored": (lambda x: x.flip(3), None),
    "softmax over pixels": (lambda x: x.flatten(2).softmax(1), None),
    "maximum of two": (lambda x: torch.max(x, x * -1), ["MUL", "MAXIMUM"]),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("check", [check_float, check_int8])
def test_composition(check, case):
    model, ops = CASES[case]
    result = check(model, X)
    if ops is not None:
        assert sorted(op for op in result.ops if op != "QUANTIZE") == sorted(ops)  # into a range that a concat joins
    assert set(result.outside) <= {"MAXIMUM", "SOFTMAX"}


def test_prelu_has_a_slope_for_each_channel():
    model = nn.PReLU(4)
    model.weight.data = torch.tensor([0.1, 0.5, 0.0, 1.5])
    check_float(model, X)
    check_int8(model, X)
