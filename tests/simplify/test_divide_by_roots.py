"""divide_by_roots: int8 has no division, but a product with 1 / sqrt."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from parity import check_float, check_int8, image
from rewriting import ops, rewrite

from exporter.simplify.matmul import drop_copies
from exporter.simplify.roots import divide_by_roots

X = image(1, 8, 6, 6)
PASSES = [drop_copies, divide_by_roots]


def test_a_quotient_of_a_root_is_a_product():
    assert ops(rewrite(lambda x: x / (x * x + 1).sqrt(), X, by=PASSES)) == ["mul", "add", "rsqrt", "mul"]


def test_the_bound_of_normalize_moves_under_the_root():
    graph = rewrite(lambda x: F.normalize(x, dim=1), X, by=PASSES)
    assert ops(graph) == ["mul", "mean", "mul", "add", "rsqrt", "mul"]


def test_a_vector_of_zeros_stays_one():
    graph = rewrite(lambda x: F.normalize(x, dim=1), X, by=PASSES)
    zeros = check_float(lambda x: F.normalize(x, dim=1) + x, torch.cat([X, torch.zeros_like(X)])).outputs[0][1]
    assert "div" not in ops(graph)
    assert not zeros.any()


def test_another_reader_of_the_root_keeps_it():
    graph = rewrite(lambda x: (x / (y := (x * x + 1).sqrt()), y), X, by=PASSES)
    assert ops(graph) == ["mul", "add", "sqrt", "rsqrt", "mul"]


@pytest.mark.parametrize(
    "model",
    [
        lambda x: x / (x * x).mean(1, True).sqrt().clamp(0.1),
        lambda x: x / (x * x).mean(1, True).sqrt().clamp(1e-6, 0.5),
        lambda x: x / ((x * x).mean(1, True).sqrt() + 0.5),
        lambda x: x / (x * x + 1),
    ],
    ids=["bound-above-noise", "two-bounds", "sum", "no-root"],
)
def test_other_divisors_stay(model):
    assert "div" in ops(rewrite(model, X, by=PASSES))


@pytest.mark.parametrize("dim", [1, 3], ids=["channels", "columns"])
def test_int8_normalize_is_all_integer(dim):
    assert check_int8(lambda x: F.normalize(x, dim=dim), X, least=25).islands == {}


def test_int8_embedding_is_all_integer():
    assert check_int8(F.normalize, image(4, 128), least=30).islands == {}


def test_a_factor_and_a_reshape_move_along():
    """RTMPose's ScaleNorm and AdaIN's deviations."""

    def model(x):
        length = x.flatten(2).norm(dim=2).reshape(1, 8, 1, 1) * 0.5
        return x / length.clamp(min=1e-5)

    graph = rewrite(model, X, by=PASSES)
    assert ops(graph)[-5:] == ["add", "rsqrt", "reshape", "mul", "mul"]
