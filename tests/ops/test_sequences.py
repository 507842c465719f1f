"""Pools of sequences, smallest elements, cosine similarity: compositions of the ops that exist."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from parity import check_float, check_int8, image
from torch import nn

from exporter.errors import UnsupportedError

X = image(1, 6, 20, low=-2, high=3)

CASES = {
    "max pool": nn.MaxPool1d(3, 2, 1),
    "max pool with ceil": nn.MaxPool1d(3, 2, ceil_mode=True),
    "max pool without a stride": nn.MaxPool1d(2),
    "average pool": nn.AvgPool1d(4, 2, 1),
    "average pool that does not count its padding": nn.AvgPool1d(3, 2, 1, count_include_pad=False),
    "mean of a sequence": nn.AdaptiveAvgPool1d(1),
    "adaptive average pool": nn.AdaptiveAvgPool1d(5),
    "adaptive average pool of a broken ratio": nn.AdaptiveAvgPool1d(3),
    "global max pool": nn.AdaptiveMaxPool1d(1),
    "adaptive max pool": nn.AdaptiveMaxPool1d(10),
    "min along a dim": lambda x: x.min(1, keepdim=True).values,
    "min of all": lambda x: x.min().reshape(1),
    "min of two": lambda x: torch.min(x, x * -0.5),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("check", [check_float, check_int8])
def test_sequences(check, case):
    check(CASES[case], X)


def test_a_pool_that_gives_indices_to_a_reader_is_refused():
    with pytest.raises(UnsupportedError, match="only its first result"):
        check_float(lambda x: F.max_pool1d(x, 2, return_indices=True), X)


def test_a_pool_without_batch_is_refused():
    with pytest.raises(UnsupportedError, match="an input of rank 2"):
        check_float(nn.MaxPool1d(2), image(6, 20))


@pytest.mark.parametrize("dim", [1, 2])
def test_cosine_similarity(dim):
    other = image(1, 6, 20, seed=2)
    check_float(lambda x, y: F.cosine_similarity(x, y, dim), X, other, least=110)
    assert check_int8(lambda x, y: F.cosine_similarity(x, y, dim), X, other, least=25).islands == {}


def test_vectors_of_zeros_are_similar_to_nothing():
    assert not check_float(lambda x: F.cosine_similarity(x * 0, x, 1) + 0 * x[:, 0], X).outputs[0].any()
