"""recognise_layer_norms: what people write for LayerNorm is one op, with its weight and bias inside."""

from __future__ import annotations

import pytest
import torch
from parity import image
from rewriting import ops, rewrite
from torch import nn

from exporter.simplify.duplicates import merge_duplicates
from exporter.simplify.layer_norm import recognise_layer_norms

X = image(1, 6, 4, 5, low=-1, high=3)
W, B = image(6, 1, 1, low=0.5, high=2, seed=2), image(6, 1, 1, seed=3)


def norm(x, dim=1, eps=1e-6, keepdim=True):
    centred = x - x.mean(dim, keepdim=True)
    return centred / torch.sqrt((centred * centred).mean(dim, keepdim=keepdim) + eps)


def applied(model, *inputs):
    return rewrite(model, *inputs, by=[merge_duplicates, recognise_layer_norms])


@pytest.mark.parametrize("dim", [1, -1, (2, 3), (1, 2, 3)])
def test_over_any_dims(dim):
    (node,) = applied(lambda x: norm(x, dim), X).nodes
    assert node.op.name == "layer_norm"


def test_eps_is_kept():
    (node,) = applied(lambda x: norm(x, eps=0.25), X).nodes
    assert node.attrs["eps"] == 0.25


def test_weight_and_bias_move_in():
    (node,) = applied(lambda x: norm(x) * W + B, X).nodes
    assert torch.equal(node.inputs[1].const, W.flatten())


def test_one_number_for_all_elements_moves_in():
    assert ops(applied(lambda x: 2.0 * norm(x) + 1.0, X)) == ["layer_norm"]


def test_a_second_weight_moves_into_the_first_only_while_there_is_no_bias():
    assert ops(applied(lambda x: nn.functional.layer_norm(x, (5,)) * W[:5, 0, 0], X)) == ["layer_norm"]
    assert ops(applied(lambda x: (norm(x) + B) * W, X)) == ["layer_norm", "mul"]


STAYS = {
    "different dims": lambda x: (x - x.mean(1, True)) / ((x - x.mean(1, True)) ** 2).mean(2, True).add(1e-6).sqrt(),
    "the square of something else": lambda x: (x - x.mean(1, True)) / (x**2).mean(1, True).add(1e-6).sqrt(),
    "no eps": lambda x: (x - x.mean(1, True)) / ((x - x.mean(1, True)) ** 2).mean(1, True).sqrt(),
    "unbiased variance": lambda x: (x - x.mean(1, True)) / (x.var(1, keepdim=True) + 1e-6).sqrt(),
}


@pytest.mark.parametrize("name", STAYS)
def test_other_formulas_stay(name):
    assert "layer_norm" not in ops(applied(STAYS[name], X))


def test_a_weight_per_pixel_stays():
    weight = image(4, 5, seed=4)
    assert ops(applied(lambda x: norm(x) * weight, X)) == ["layer_norm", "mul"]


def test_a_norm_that_somebody_else_reads_keeps_its_weight_outside():
    def model(x):
        y = norm(x)
        return y * W, y

    assert ops(applied(model, X)) == ["layer_norm", "mul"]
