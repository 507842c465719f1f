"""Outputs that never change, and codes at an end where the float model's values are not."""

from __future__ import annotations

import torch

from exporter.ir.quant import QuantParams
from exporter.verify.ends import Ends

PARAMS = QuantParams((1 / 64,), 0)
REALS = torch.linspace(-2, 127 / 64, 1000).reshape(1, 10, 100)


def told(codes: torch.Tensor, reference: torch.Tensor | None, params: QuantParams = PARAMS) -> list[str]:
    ends = Ends("heat", params)
    ends.add(codes, reference)
    return ends.warnings()


def test_codes_of_the_same_values_are_fine():
    assert told(PARAMS.quantize(REALS), REALS) == []


def test_values_at_the_end_of_the_range_explain_codes_there():
    """Most of what a rectifier gives is zero, its lowest code."""
    relu = QuantParams((1 / 64,), -128)
    assert told(relu.quantize(REALS.relu()), REALS.relu(), relu) == []


def test_values_far_beyond_the_range_saturate():
    (warning,) = told(PARAMS.quantize(REALS * 2), REALS * 2)
    low, high = PARAMS.range
    share = float(((low - 16 / 64 > REALS * 2) | (high + 16 / 64 < REALS * 2)).float().mean())
    assert warning.startswith(f"output heat saturates: {100 * share:.1f} % of its codes")


def test_values_inside_that_came_out_at_the_end_saturate():
    codes = PARAMS.quantize(REALS)
    codes[:, :3] = 127
    (warning,) = told(codes, REALS)
    assert "30.0 % of its codes" in warning


def test_a_few_clipped_values_are_fine():
    reals = REALS.clone()
    reals[0, 0, :10] = 9.0
    assert told(PARAMS.quantize(reals), reals) == []


def test_unsigned_codes_have_ends_of_their_own():
    unsigned = QuantParams((1 / 64,), 128, None, "uint8")
    assert told(unsigned.quantize(REALS), REALS, unsigned) == []
    assert "saturates" in told(unsigned.quantize(REALS * 2), REALS * 2, unsigned)[0]


def test_one_code_is_dead_where_the_values_change():
    (warning,) = told(torch.full((1, 4), -128), torch.tensor([[0.0, 0.001, 0.002, 0.0]]))
    assert "one code on every sample" in warning
    assert "PyTorch's values span [0, 0.002]" in warning


def test_one_code_is_right_where_the_values_never_change():
    assert told(torch.full((1, 4), 3), torch.full((1, 4), 3 / 64)) == []


def test_one_code_is_called_out_where_the_values_are_unknown():
    assert len(told(torch.full((1, 4), 3), None)) == 1
