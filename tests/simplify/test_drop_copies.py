"""drop_copies: ops that broadcast need no copies."""

from __future__ import annotations

import torch
from parity import image
from rewriting import ops, rewrite

from exporter.simplify.matmul import drop_copies

X = image(1, 3, 4, 5)


def applied(model, *inputs):
    return ops(rewrite(model, *inputs, by=[drop_copies]))


def test_an_expanded_operand_broadcasts():
    assert applied(lambda x: x + x.mean(1, True).expand(-1, 3, -1, -1), X) == ["mean", "add"]


def test_expanded_along_two_dims():
    assert applied(lambda x: x * x.mean((1, 3), True).expand_as(x), X) == ["mean", "mul"]


def test_copies_that_give_the_result_its_shape_stay():
    assert applied(lambda x: x.mean(1, True).expand(-1, 3, -1, -1) * 2.0, X) == ["mean", "concat", "mul"]


def test_copies_of_more_than_one_slice_stay():
    assert applied(lambda x: torch.cat([x, x], 1) + 1.0, X) == ["concat", "add"]
