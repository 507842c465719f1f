"""Ranges come from running the float graph on samples, one observer a value."""

from __future__ import annotations

import pytest
import torch
from parity import image, run_float, simplified
from torch import nn

from exporter.errors import DataError, UsageError
from exporter.quantize.calibrate import calibrate, observed

X = image(1, 3, 8, 8)
SAMPLES = [(image(1, 3, 8, 8, seed=seed, high=1 + seed),) for seed in range(7)]


def net() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Sigmoid(), nn.Conv2d(4, 2, 1))


def test_values_with_a_range_of_their_own_are_observed():
    """Same-scale results (max-pool) and fixed ones (sigmoid) take no observer."""
    graph = simplified(net(), X)
    first, _, _, last = graph.nodes
    assert observed(graph) == [graph.inputs[0], first.output, last.output]
    assert set(calibrate(graph, SAMPLES, "minmax")) == {v.name for v in observed(graph)}


def test_minmax_is_the_smallest_and_largest_over_all_samples():
    graph = simplified(net(), X)
    ranges = calibrate(graph, SAMPLES, "minmax")
    outputs = torch.cat([run_float(graph, *sample)[0] for sample in SAMPLES])
    assert ranges[graph.outputs[0].name] == (min(0.0, float(outputs.min())), max(0.0, float(outputs.max())))
    low, high = ranges[graph.inputs[0].name]
    assert (low, high) == (min(float(x.min()) for (x,) in SAMPLES), max(float(x.max()) for (x,) in SAMPLES))


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse", "entropy"])
def test_ranges_repeat_exactly(method):
    """Samples run side by side; the result does not depend on which came first."""
    graph = simplified(net(), X)
    first = calibrate(graph, SAMPLES, method)
    assert all(calibrate(graph, SAMPLES, method) == first for _ in range(3))


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse", "entropy"])
def test_the_order_of_samples_does_not_matter(method):
    graph = simplified(net(), X)
    assert calibrate(graph, SAMPLES, method) == calibrate(graph, SAMPLES[::-1], method)


def test_every_range_holds_zero():
    graph = simplified(lambda x: x * 2 + 7, X)
    for low, high in calibrate(graph, [(X + 3,)], "minmax").values():
        assert low <= 0 <= high


def test_progress_counts_the_samples():
    seen: list[int] = []
    calibrate(simplified(net(), X), SAMPLES, "minmax", progress=seen.append)
    assert seen == [1, 2, 3, 4, 5, 6, 7]


def test_samples_may_be_a_generator():
    graph = simplified(net(), X)
    assert calibrate(graph, (sample for sample in SAMPLES), "minmax") == calibrate(graph, SAMPLES, "minmax")


def test_no_samples_is_an_error():
    with pytest.raises(DataError, match="no calibration samples"):
        calibrate(simplified(net(), X), [], "minmax")


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_sample_that_is_not_finite_is_named(poison):
    bad = X.clone()
    bad[0, 0, 0, 0] = poison
    with pytest.raises(DataError) as caught:
        calibrate(simplified(net(), X), [*SAMPLES[:3], (bad,)], "minmax")
    assert "calibration sample 3" in caught.value.where


def test_a_sample_of_another_shape_is_an_error():
    with pytest.raises(ValueError, match=r"input input is \[1, 3, 8, 8\], got \[1, 3, 4, 4\]"):
        calibrate(simplified(net(), X), [(image(1, 3, 4, 4),)], "minmax")


def test_an_unknown_method_is_an_error():
    with pytest.raises(UsageError, match="unknown range method"):
        calibrate(simplified(net(), X), SAMPLES, "minimax")
