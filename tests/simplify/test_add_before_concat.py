"""add_before_concat: a class token and its position are one constant."""

from __future__ import annotations

import torch
from parity import image
from rewriting import ops, rewrite

from exporter.simplify.add_before_concat import add_before_concat
from exporter.simplify.fold_constants import fold_constants

X, TOKEN, POSITION = image(1, 4, 8), image(1, 1, 8, seed=2), image(1, 5, 8, seed=3)


def applied(model, *inputs):
    return rewrite(model, *inputs, by=[fold_constants, add_before_concat])


def test_positions_are_added_to_the_patches_alone():
    graph = applied(lambda x: torch.cat([TOKEN, x], 1) + POSITION, X)
    assert ops(graph) == ["add", "concat"]
    assert torch.equal(graph.nodes[1].inputs[0].const, TOKEN + POSITION[:, :1])


def test_a_position_that_broadcasts():
    assert ops(applied(lambda x: 0.5 + torch.cat([x, TOKEN], 1), X)) == ["add", "concat"]
    assert ops(applied(lambda x: POSITION[:, :1] + torch.cat([x, TOKEN], 1), X)) == ["add", "concat"]


def test_without_a_constant_part_it_stays():
    assert ops(applied(lambda x: torch.cat([x[:, :1], x], 1) + POSITION, X)) == ["slice", "concat", "add"]


def test_with_another_reader_it_stays():
    assert ops(applied(lambda x: [(y := torch.cat([TOKEN, x], 1)) + POSITION, y], X)) == ["concat", "add"]
