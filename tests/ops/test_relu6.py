"""relu6: an op of its own where it cannot be fused."""

from __future__ import annotations

import pytest
import torch.nn.functional as F
from parity import check_float, check_int8
from unary import INPUTS


@pytest.mark.parametrize("x", INPUTS)
def test_float(x):
    assert check_float(F.relu6, x).ops == ["RELU6"]


@pytest.mark.parametrize("x", INPUTS)
def test_int8(x):
    assert check_int8(F.relu6, x).ops == ["RELU6"]


@pytest.mark.parametrize(
    "clamp", [lambda x: x.clamp(0, 6), lambda x: F.hardtanh(x, 0.0, 6.0), lambda x: F.hardtanh_(x, 0, 6)]
)
def test_clamps_to_0_and_6_are_relu6(clamp):
    assert check_float(clamp, INPUTS[2].values[0]).ops == ["RELU6"]


def test_other_clamps_are_refused():
    from exporter.errors import UnsupportedError

    with pytest.raises(UnsupportedError, match=r"clamp to \[-1, 1\]: only \[0, 6\] and \[0, inf\)"):
        check_float(lambda x: x.clamp(-1, 1), INPUTS[0].values[0])
