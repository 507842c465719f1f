"""concat: any dimension; in int8 all operands share one set of parameters."""

from __future__ import annotations

import pytest
import torch
from parity import check_float, check_int8, image
from torch import nn

from exporter.errors import AccuracyError
from exporter.verify.runtimes.litert import LiteRT

CASES = [
    pytest.param([(1, 3, 5, 7), (1, 4, 5, 7)], 1, id="channels"),
    pytest.param([(1, 3, 5, 7), (1, 3, 2, 7)], 2, id="rows"),
    pytest.param([(1, 3, 5, 7), (1, 3, 5, 1)], -1, id="columns"),
    pytest.param([(1, 3, 5, 7), (2, 3, 5, 7)], 0, id="batch"),
    pytest.param([(1, 1, 4, 4), (1, 2, 4, 4), (1, 3, 4, 4), (1, 4, 4, 4), (1, 5, 4, 4)], 1, id="five"),
    pytest.param([(4, 5), (4, 2)], 1, id="rank-2"),
    pytest.param([(2, 4, 5), (2, 3, 5)], 1, id="rank-3"),
]


def inputs(shapes):
    """Uniform inputs whose ranges are 1, 2, 3, … times [-1, 1.5)."""
    return [image(*shape, low=-(i + 1), high=1.5 * (i + 1), seed=i) for i, shape in enumerate(shapes)]


@pytest.mark.parametrize(("shapes", "dim"), CASES)
def test_float(shapes, dim):
    assert check_float(lambda *xs: torch.cat(xs, dim), *inputs(shapes)).ops == ["CONCATENATION"]


@pytest.mark.parametrize(("shapes", "dim"), CASES)
def test_int8(shapes, dim):
    """Graph inputs keep their own parameters, so each is requantised on its way into the concat."""
    result = check_int8(lambda *xs: torch.cat(xs, dim), *inputs(shapes))
    assert result.ops == ["QUANTIZE"] * len(shapes) + ["CONCATENATION"]


@pytest.mark.parametrize("check", [check_float, check_int8])
@pytest.mark.parametrize("count", [6, 9, 11])
def test_more_operands_than_xnnpack_takes_are_joined_in_steps(check, count, tmp_path):
    """The smallest neighbours first, so that little is copied twice; the delegate takes every step."""

    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.branches = nn.ModuleList(nn.Conv2d(3, 1 + i % 4, 1) for i in range(count))

        def forward(self, x):
            return torch.cat([branch(x) for branch in self.branches], 1)

    result = check(Branches(), image(1, 3, 5, 7))
    joins = [op for op in result.file.ops if op.name == "CONCATENATION"]
    assert max(len(op.inputs) for op in joins) == 5
    assert len(joins) == -(-(count - 1) // 4)
    (tmp_path / "joins.tflite").write_bytes(result.content)
    assert LiteRT(tmp_path / "joins.tflite").partitions().undelegated == ()


@pytest.mark.parametrize("check", [check_float, check_int8])
def test_operands_of_its_own_need_no_requantisation(check):
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3, padding=1)

        def forward(self, x):
            return torch.cat([self.a(x), self.b(x)], 1)

    assert check(Branches(), image(1, 3, 6, 6)).ops == ["CONV_2D", "CONV_2D", "CONCATENATION"]


@pytest.mark.parametrize("check", [check_float, check_int8])
def test_a_tensor_and_itself(check):
    check(lambda x: torch.cat([x * 2, x * 2], 1), image(1, 3, 5, 7))


@pytest.mark.parametrize("check", [check_float, check_int8])
def test_a_constant_operand(check):
    constant = image(1, 2, 5, 7, low=0, high=3)
    check(lambda x: torch.cat([x * 2, constant], 1), image(1, 3, 5, 7))


@pytest.mark.parametrize("check", [check_float, check_int8])
def test_all_fixed_alike(check):
    result = check(lambda a, b: torch.cat([a.sigmoid(), b.sigmoid()], 1), image(1, 3, 5, 7), image(1, 4, 5, 7, low=-4))
    assert result.ops == ["LOGISTIC", "LOGISTIC", "CONCATENATION"]


FIXED = [
    pytest.param(lambda x: [x.sigmoid(), x * 0.4], id="sigmoid-and-a-narrower-range"),
    pytest.param(lambda x: [x.sigmoid(), x * 2], id="sigmoid-and-a-wider-range"),
    pytest.param(lambda x: [x.sigmoid(), x.tanh()], id="sigmoid-and-tanh"),
    pytest.param(lambda x: [torch.max_pool2d(x.sigmoid(), 3, 1, 1), x * 2], id="pooled-sigmoid-and-a-wider-range"),
    pytest.param(lambda x: [x.sigmoid()[:, :2], x.tanh()[:, 1:]], id="slices-of-sigmoid-and-tanh"),
]  # fmt: skip


@pytest.mark.parametrize("check", [check_float, check_int8])
@pytest.mark.parametrize("parts", FIXED)
def test_fixed_operands_are_requantised(check, parts):
    check(lambda x: torch.cat(parts(x), 1), image(1, 3, 5, 7, low=-3, high=3))


@pytest.mark.parametrize("check", [check_float, check_int8])
def test_stack(check):
    check(lambda a, b: torch.stack([a, b], 1), image(4, 5), image(4, 5, seed=2))


def test_a_constant_far_beyond_the_range_is_refused():
    constant = torch.full((1, 1, 5, 7), 1000.0)
    with pytest.raises(AccuracyError, match="a concat would join ranges"):
        check_int8(lambda x: torch.cat([x * 2, constant], 1), image(1, 3, 5, 7))


def test_ranges_are_as_wide_as_with_zero_in_them():
    with pytest.raises(AccuracyError, match="a concat would join ranges"):
        check_int8(lambda x: torch.cat([x * 2, x + 1000], 1), image(1, 3, 5, 7))


def test_a_constant_of_zeros_joins_any_range():
    check_int8(lambda x: torch.cat([x * 2, torch.zeros(1, 1, 5, 7)], 1), image(1, 3, 5, 7))


def test_features_far_apart_are_joined_where_a_convolution_reads_them():
    """Nobody outside could return them one by one; the finer one keeps the codes that are left."""
    conv = nn.Conv2d(6, 4, 1)
    result = check_int8(lambda x: conv(torch.cat([x * 2, x * 100], 1)), image(1, 3, 5, 7))
    assert "QUANTIZE" not in result.ops


def test_scores_far_below_the_boxes_are_refused_behind_an_activation_too():
    with pytest.raises(AccuracyError, match="a concat would join ranges"):
        check_int8(lambda x: torch.cat([x * 2, x * 100], 1).sigmoid(), image(1, 3, 5, 7))
