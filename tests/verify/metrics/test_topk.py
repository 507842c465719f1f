"""top-1 and top-5, and the intervals around them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from exporter.verify.metrics.intervals import middle, resamples, wilson
from exporter.verify.metrics.topk import TopK


def judged(scores, truths):
    metric = TopK(len(truths), len(scores[0]))
    for image, (row, truth) in enumerate(zip(scores, truths, strict=True)):
        metric.add(image, [torch.tensor([row])], truth)
    return metric


def test_shares_of_labels_among_the_best():
    scores = [[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]] * 4
    metric = judged(scores, [5, 4, 1, 0])
    assert metric.names == ("top-1", "top-5")
    assert metric.values().tolist() == [0.25, 0.75]


def test_a_weight_counts_an_image_so_often():
    metric = judged([[1.0, 0.0], [1.0, 0.0]], [0, 1])
    assert metric.names == ("top-1",)
    assert metric.values(np.array([3, 1])).tolist() == [0.75]


@pytest.mark.parametrize(("truth", "right"), [(0, 1.0), (1, 0.0)])
def test_the_first_of_equal_scores_is_the_answer_as_argmax_has_it(truth, right):
    assert judged([[2.0, 2.0, 1.0]], [truth]).values().tolist() == [right]
    assert (int(torch.tensor([2.0, 2.0, 1.0]).argmax()) == truth) == bool(right)


@pytest.mark.parametrize("scores", [[float("nan"), 1.0], [float("nan")] * 2])
def test_nan_finds_nothing(scores):
    assert judged([scores], [0]).values().tolist() == [0.0]


@pytest.mark.parametrize(
    ("share", "count", "low", "high"),
    [(0.0, 10, 0.0, 0.2775), (0.5, 10, 0.2366, 0.7634), (1.0, 10, 0.7225, 1.0), (0.9, 1000, 0.8798, 0.9171)],
)
def test_wilson_as_tabulated(share, count, low, high):
    """R: binom.confint(methods = "wilson"), also Newcombe 1998, Stat. Med. 17: 857."""
    assert wilson(share, count) == pytest.approx((low, high), abs=1e-4)


def test_draws_are_the_same_on_every_call_and_keep_the_count():
    first, again = list(resamples(7)), list(resamples(7))
    assert np.array_equal(first, again)
    assert {int(weights.sum()) for weights in first} == {7}
    assert not np.array_equal(first[0], first[1])


def test_the_bootstrap_of_a_share_agrees_with_the_normal_approximation():
    metric = judged([[1.0, 0.0]] * 400, [0] * 300 + [1] * 100)
    low, high = middle(np.array([metric.values(weights)[0] for weights in resamples(400)]))
    half = 1.96 * (0.75 * 0.25 / 400) ** 0.5
    assert (low, high) == pytest.approx((0.75 - half, 0.75 + half), abs=0.01)
