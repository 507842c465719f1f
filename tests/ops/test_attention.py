"""Attention in int8: better than TFLite's SOFTMAX would be, on even rows most of all."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from parity import check_int8, image


def product(scores, values):
    return F.softmax(scores, -1) @ values


def operands(spread, tokens=197):
    generator = torch.Generator().manual_seed(0)
    scores = spread * torch.randn(3, tokens, tokens, generator=generator)
    return scores, torch.randn(3, tokens, 64, generator=generator)


SPREADS = {
    # standard deviation of the scores, SNR that is reached in dB (rounded down)
    "rows that are nearly even": (0.1, 35),
    "rows that lean": (1.0, 30),
    "rows of few weights": (4.0, 29),
}


@pytest.mark.parametrize("name", SPREADS)
def test_noise(name):
    spread, least = SPREADS[name]
    result = check_int8(product, *operands(spread), least=least)
    assert "SOFTMAX" not in result.ops


def test_rows_of_different_spread():
    scores, values = operands(1.0)
    spread = torch.exp(torch.randn(3, 197, 1, generator=torch.Generator().manual_seed(1)))
    check_int8(product, scores * spread, values, least=22)


@pytest.mark.parametrize("tokens", [1, 2, 7])
def test_few_tokens(tokens):
    check_int8(product, *operands(1.0, tokens), least=25)


def test_1024_tokens():
    check_int8(product, image(1, 1024, 1024, low=-3, high=3), image(1, 1024, 8, seed=2))


def test_scores_far_apart():
    """Differences beyond the range of exp saturate."""
    check_int8(product, image(2, 9, 9, low=-300, high=300), image(2, 9, 8, seed=2), least=25)


def test_values_with_a_transpose():
    check_int8(lambda s, v: F.softmax(s, -1) @ v.mT, image(2, 9, 9, low=-3, high=3), image(2, 8, 9, seed=2))


STAYS = {
    "a softmax that is returned": lambda s, v: (F.softmax(s, -1) @ v, F.softmax(s, -1)),
    "a softmax over the rows": lambda s, v: F.softmax(s, -2) @ v,
    "a softmax on the right": lambda s, v: v.mT @ F.softmax(s, -1),
}


@pytest.mark.parametrize("name", STAYS)
def test_other_softmaxes_stay(name):
    result = check_int8(STAYS[name], image(2, 9, 9, low=-3, high=3), image(2, 9, 8, seed=2), least=20)
    assert "SOFTMAX" in result.ops
