"""transpose_right: the second operand of a matmul is read transposed."""

from __future__ import annotations

import pytest
from parity import image
from rewriting import ops, rewrite

from exporter.simplify.matmul import transpose_right

A, B = image(2, 5, 8), image(2, 7, 8, seed=2)


def applied(model, *inputs):
    return rewrite(model, *inputs, by=[transpose_right])


@pytest.mark.parametrize("move", [lambda b: b.mT, lambda b: b.transpose(1, 2), lambda b: b.permute(0, 2, 1)])
def test_a_swap_of_the_last_dims_goes(move):
    graph = applied(lambda a, b: a @ move(b), A, B)
    assert ops(graph) == ["matmul"]
    assert graph.nodes[0].attrs["transpose_b"]


def test_other_transposes_stay():
    model = lambda a, b: a @ b.permute(1, 2, 0)  # noqa: E731
    assert ops(applied(model, A, image(7, 2, 8))) == ["transpose", "matmul"]


def test_the_first_operand_stays():
    assert ops(applied(lambda a, b: a.mT @ b, image(2, 8, 5), image(2, 8, 7))) == ["transpose", "matmul"]
