"""matmul of two activations: ranks, broadcast leading dims, the spellings of it, ranges, a constant on either side."""

from __future__ import annotations

import pytest
import torch
from operands import RANGES
from parity import check_float, check_int8, image, simplified
from torch import nn

from exporter.quantize import quantize
from exporter.quantize.calibrate import calibrate

SHAPES = [
    pytest.param((5, 8), (8, 7), id="rank-2"),
    pytest.param((3, 5, 8), (3, 8, 7), id="rank-3"),
    pytest.param((2, 3, 5, 8), (2, 3, 8, 7), id="rank-4"),
    pytest.param((2, 3, 5, 8), (1, 3, 8, 7), id="over-the-batch"),
    pytest.param((3, 5, 8), (8, 7), id="rank-3-and-2"),
    pytest.param((1, 2, 2, 5, 8), (1, 2, 2, 8, 7), id="rank-5"),
    pytest.param((2, 1, 8), (2, 8, 1), id="dot-products"),
    pytest.param((2, 1, 1), (2, 1, 1), id="one-number"),
    pytest.param((2, 3, 1000), (2, 1000, 4), id="accumulator-beyond-2**24"),
]


def operands(a, b):
    return image(*a), image(*b, low=-2, high=3, seed=2)


@pytest.mark.parametrize(("a", "b"), SHAPES)
@pytest.mark.parametrize("check", [check_float, check_int8])
def test_shapes(check, a, b):
    assert check(torch.matmul, *operands(a, b)).ops == ["BATCH_MATMUL"]


@pytest.mark.parametrize(("a", "b"), RANGES)
def test_int8_ranges(a, b):
    check_int8(
        torch.matmul,
        image(2, 6, 9, low=a[0], high=a[1]),
        image(2, 9, 4, low=b[0], high=b[1], seed=2),
        least=-99 if b == (-0.003, 0.003) else 25,
    )


SPELLINGS = {
    "bmm": (torch.bmm, (3, 5, 8), (3, 8, 7)),
    "mm": (torch.mm, (5, 8), (8, 7)),
    "vector on the left": (torch.matmul, (8,), (2, 8, 7)),
    "vector on the right": (torch.matmul, (2, 5, 8), (8,)),
    "einsum": (lambda a, b: torch.einsum("bid,bdj->bij", a, b), (3, 5, 8), (3, 8, 7)),
    "einsum of heads": (lambda a, b: torch.einsum("bhid,bhjd->bhij", a, b), (1, 3, 5, 8), (1, 3, 7, 8)),
}


@pytest.mark.parametrize("name", SPELLINGS)
@pytest.mark.parametrize("check", [check_float, check_int8])
def test_spellings(check, name):
    run, a, b = SPELLINGS[name]
    result = check(run, *operands(a, b))
    assert [op for op in result.ops if op not in ("RESHAPE",)] == ["BATCH_MATMUL"]


@pytest.mark.parametrize("check", [check_float, check_int8])
def test_einsum_that_reorders(check):
    result = check(lambda a, b: torch.einsum("bhid,bhdj->bihj", a, b), *operands((1, 3, 5, 8), (1, 3, 8, 7)))
    assert result.ops == ["BATCH_MATMUL", "TRANSPOSE"]


@pytest.mark.parametrize("equation", ["bid,bjk->bij", "bii->b", "...ij,...jk->...ik", "bid,bjd"])
def test_einsum_that_is_no_matmul_is_refused(equation):
    from exporter.errors import UnsupportedError

    other = image(2, 4, 4, seed=2)
    with pytest.raises(UnsupportedError, match="einsum"):
        simplified(lambda x: torch.einsum(equation, *[x, other + x][: 1 + ("," in equation)]), image(2, 4, 4))


@pytest.mark.parametrize("check", [check_float, check_int8])
def test_baddbmm(check):
    a, b = operands((3, 5, 8), (3, 8, 7))
    check(lambda a, b, c: torch.baddbmm(c, a, b, beta=0.5, alpha=2.0), a, b, image(3, 5, 7))


@pytest.mark.parametrize("check", [check_float, check_int8])
def test_a_transposed_second_operand_costs_nothing(check):
    a, b = operands((3, 5, 8), (3, 7, 8))
    assert check(lambda a, b: a @ b.transpose(-2, -1), a, b).ops == ["BATCH_MATMUL"]
    assert check(lambda a, b: a @ b.mT, a, b).ops == ["BATCH_MATMUL"]


@pytest.mark.parametrize("check", [check_float, check_int8])
def test_a_constant_matrix_on_the_right_is_a_linear_layer(check):
    weight = image(8, 7, seed=3)
    assert check(lambda x: x @ weight, image(3, 5, 8)).ops == ["FULLY_CONNECTED"]


@pytest.mark.parametrize("check", [check_float, check_int8])
@pytest.mark.parametrize("left", [True, False])
def test_other_constants_stay_operands(check, left):
    weight = image(3, 6, 6, low=0, high=1, seed=3)
    assert check(lambda x: weight @ x if left else x @ weight, image(3, 6, 6)).ops == ["BATCH_MATMUL"]


def test_int8_second_operand_has_zero_point_0():
    """XNNPACK refuses any other, and so does the plan."""
    graph = check_int8(torch.matmul, image(3, 5, 8, low=0), image(3, 8, 7, low=0, high=9, seed=2)).graph
    a, b = graph.inputs
    assert (a.quant.zero_point, b.quant.zero_point) == (-128, 0)


def test_int8_second_operand_of_fixed_scale_is_requantised():
    result = check_int8(lambda a, b: a @ b.sigmoid(), *operands((3, 5, 8), (3, 8, 7)))
    assert result.ops == ["LOGISTIC", "QUANTIZE", "BATCH_MATMUL"]


def test_a_plan_with_a_zero_point_on_the_right_is_refused():
    from exporter.errors import DataError
    from exporter.ir.quant import QuantParams

    a, b = operands((3, 5, 8), (3, 8, 7))
    graph = simplified(torch.matmul, a, b)
    plan, _ = quantize(graph, calibrate(graph, [(a, b)], "minmax"), io="int8")
    name = graph.inputs[1].name
    with pytest.raises(DataError, match="cannot hold"):
        quantize(simplified(torch.matmul, a, b), None, plan | {name: QuantParams(plan[name].scale, 3)}, io="int8")


class Attention(nn.Module):
    """q, k and v are the input itself."""

    def __init__(self, **options):
        super().__init__()
        self.options = options

    def forward(self, x):
        return nn.functional.scaled_dot_product_attention(x.tanh(), x, x.relu(), **self.options)


@pytest.mark.parametrize(
    "options", [{}, {"scale": 0.3}, {"attn_mask": image(9, 9, seed=4)}], ids=["plain", "scale", "bias"]
)
@pytest.mark.parametrize("check", [check_float, check_int8])
def test_scaled_dot_product_attention(check, options):
    x = image(1, 2, 9, 16, low=-2, high=2).flatten(0, 1)
    assert check(Attention(**options), x).ops.count("BATCH_MATMUL") == 2


@pytest.mark.parametrize("options", [{"is_causal": True}, {"attn_mask": torch.ones(9, 9) > 0}, {"dropout_p": 0.5}])
def test_attention_with_what_has_no_int8_form_is_refused(options):
    from exporter.errors import UnsupportedError

    with pytest.raises(UnsupportedError, match="is_causal, enable_gqa, dropout or a mask of truth values"):
        simplified(Attention(**options), image(2, 9, 16))
