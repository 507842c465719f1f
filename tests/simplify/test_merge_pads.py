"""merge_pads: explicit pads become the padding of the op behind them."""

from __future__ import annotations

import math

import pytest
import torch.nn.functional as F
from parity import image
from rewriting import ops, rewrite
from torch import nn

from exporter.simplify.merge_pads import merge_pads

X = image(1, 3, 8, 8, low=-3, high=-1)
WEIGHT, WIDER = image(4, 3, 3, 3, seed=2), image(4, 4, 3, 3, seed=2)


def pooled(*widths: int, value: float = -math.inf, padding: int = 0):
    return lambda x: F.max_pool2d(F.pad(x, widths, value=value), 3, 2, padding)


def convolved(*widths: int, value: float = 0.0, padding: int = 0):
    return lambda x: F.conv2d(F.pad(x, widths, value=value), WEIGHT, padding=padding)


MERGES = [
    pytest.param(convolved(0, 1, 0, 1), (0, 1, 0, 1), id="conv-after"),
    pytest.param(convolved(1, 2, 3, 4), (3, 4, 1, 2), id="conv-four-widths"),
    pytest.param(convolved(1, 0, 0, 0, padding=1), (1, 1, 2, 1), id="conv-with-padding-of-its-own"),
    pytest.param(pooled(0, 1, 0, 1), (0, 1, 0, 1), id="pool-after"),
    pytest.param(pooled(1, 1, 1, 1, padding=1), (2, 2, 2, 2), id="pool-with-padding-of-its-own"),
]


@pytest.mark.parametrize(("model", "padding"), MERGES)
def test_merges(model, padding):
    (node,) = rewrite(model, X, by=[merge_pads]).nodes
    assert node.attrs["padding"] == padding


def test_every_reader_gets_the_padding():
    def model(x):
        y = F.pad(x, (1, 1, 1, 1))
        return F.conv2d(y, WEIGHT) + F.conv2d(y, WEIGHT * 2)

    assert ops(rewrite(model, X, by=[merge_pads])) == ["conv2d", "conv2d", "add"]


def test_a_pad_with_another_reader_stays_for_it():
    def model(x):
        y = F.pad(x, (1, 1, 1, 1))
        return F.conv2d(y, WEIGHT), y

    graph = rewrite(model, X, by=[merge_pads])
    assert ops(graph) == ["pad", "conv2d"]
    assert graph.nodes[1].inputs[0] is graph.inputs[0]


DECLINES = [
    pytest.param(convolved(1, 1, 1, 1, value=0.5), id="conv-of-another-value"),
    pytest.param(pooled(1, 1, 1, 1, value=0.0), id="pool-of-zeros"),
    pytest.param(pooled(1, 1, 1, 1, value=0.0, padding=1), id="pool-of-zeros-with-padding-of-its-own"),
    pytest.param(lambda x: F.conv2d(F.pad(x, (0, 0, 0, 0, 0, 1)), WIDER), id="channels"),
    pytest.param(lambda x: F.conv2d(F.pad(x, (0, 0, 0, 0, 0, 0, 1, 0)), WEIGHT), id="batch"),
    pytest.param(lambda x: F.avg_pool2d(F.pad(x, (1, 1, 1, 1)), 3), id="average-pool-counts-them"),
]


@pytest.mark.parametrize("model", DECLINES)
def test_declines(model):
    assert ops(rewrite(model, X, by=[merge_pads]))[0] == "pad"


def test_a_counted_average_pool_keeps_its_pad():
    assert ops(rewrite(nn.AvgPool2d(3, 1, 1), X, by=[merge_pads])) == ["pad", "avg_pool2d"]


def test_no_minus_infinity_is_left():
    graph = rewrite(pooled(0, 1, 0, 1), X, by=[merge_pads])
    assert all(math.isfinite(a) for n in graph.nodes for a in n.attrs.values() if isinstance(a, float))
