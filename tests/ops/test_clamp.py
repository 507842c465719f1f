"""clamp: between two bounds, one of them or both; hardtanh. In int8 a QUANTIZE against the ends of the codes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from parity import check_float, check_int8, image
from torch import nn

from exporter.errors import UnsupportedError

X = image(1, 3, 5, 7, low=-4, high=4)

BOTH = ["MAXIMUM", "MINIMUM"]

CASES = [
    pytest.param(lambda x: x.clamp(-1, 2), BOTH, ["QUANTIZE"], id="both"),
    pytest.param(lambda x: x.clamp(0, 1), BOTH, ["QUANTIZE"], id="0-to-1"),
    pytest.param(lambda x: x.clamp(min=-1), ["MAXIMUM"], ["QUANTIZE"], id="low"),
    pytest.param(lambda x: x.clamp(max=2), ["MINIMUM"], ["QUANTIZE"], id="high"),
    pytest.param(lambda x: x.clamp_max(2), ["MINIMUM"], ["QUANTIZE"], id="clamp_max"),
    pytest.param(lambda x: x.clamp(min=1e-6), ["SUB", "ADD"], ["SUB", "ADD"], id="low-above-zero"),
    pytest.param(lambda x: x.clamp(1, 3), ["SUB", *BOTH, "ADD"], ["SUB", "QUANTIZE", "ADD"], id="above"),
    pytest.param(lambda x: x.clamp(-3, -1), ["SUB", *BOTH, "ADD"], ["SUB", "QUANTIZE", "ADD"], id="below"),
    pytest.param(nn.Hardtanh(), BOTH, ["QUANTIZE", "QUANTIZE"], id="hardtanh"),
    pytest.param(lambda x: F.hardtanh_(x * 2, -2, 3), ["MUL", *BOTH], ["MUL", "QUANTIZE"], id="in-place"),
]


@pytest.mark.parametrize(("model", "ops", "_"), CASES)
def test_float(model, ops, _):
    assert check_float(model, X).ops == ops


@pytest.mark.parametrize(("model", "_", "ops"), CASES)
def test_int8(model, _, ops):
    result = check_int8(model, X)
    assert result.ops == ops
    assert result.outside == ()


def test_int8_within_a_wider_concat_still_clamps_at_both_bounds():
    result = check_int8(lambda x: torch.cat([x.clamp(-1, 2), x * 1.1], 1), X)
    assert result.ops.count("QUANTIZE") == 3
    assert result.outside == ()


def test_an_empty_interval_is_refused():
    with pytest.raises(UnsupportedError, match=r"clamp to \[2, 1\], which is empty"):
        check_float(lambda x: x.clamp(2, 1), X)
