"""Warnings of values with few codes, and of ranges that rest on too few pictures; and when they are silent."""

from __future__ import annotations

import pytest
import torch
from parity import image, simplified
from torch import Tensor, nn

from exporter.build import build_model
from exporter.ir.graph import Graph
from exporter.quantize import quantize
from exporter.quantize.calibrate import Extremes, calibrate, observe
from exporter.quantize.data import default_samples_dir, load_samples
from exporter.quantize.guards import few_pictures, overshoots, value_warnings
from exporter.quantize.preprocess import Preprocess

X = image(1, 3, 5, 7)
PICTURES = [x for (x,) in load_samples(default_samples_dir(), Preprocess(size=(64, 64))).feeds()]


def warnings_of(model: nn.Module, x: Tensor = X) -> list[str]:
    graph = simplified(model, x)
    ranges = calibrate(graph, [(x,)], "minmax")
    quantize(graph, ranges)
    return value_warnings(graph, ranges)


class Joined(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.conv = nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(torch.cat([x.tanh() * 2, x * self.factor], 1))


class Scaled(nn.Module):
    """A convolution whose weights are multiplied by `factor`."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)
        self.conv.weight.data *= factor

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Faint(nn.Module):
    """Features of about `size` between two layers."""

    def __init__(self, size: float) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.size).tanh() * (1 / self.size)


# --- values with few codes --------------------------------------------------------------------------------------------
def test_a_value_with_few_codes_in_a_join_is_named_and_counted():
    (warning,) = warnings_of(Joined(100.0))
    assert warning.startswith("1 of ")
    assert "model/mul (test_guards.py:" in warning
    assert warning.endswith("only 4: the network joins them with far wider ones")


def test_joins_of_like_ranges_give_no_warning():
    assert warnings_of(Joined(3.0)) == []


def test_activations_below_the_smallest_scale_are_named():
    (warning,) = warnings_of(Faint(1e-4))
    assert "model/mul (test_guards.py:" in warning
    assert "codes: int8 rounds most of it to zero" in warning


def test_weights_below_the_smallest_scale_are_named():
    (warning,) = [text for text in warnings_of(Scaled(1e-3)) if "weights are tiny" in text]
    assert warning.startswith("conv.weight (test_guards.py:")
    assert "codes up to 3 of 127" in warning


@pytest.mark.parametrize("model", [Faint(0.1), Scaled(1.0), Scaled(100.0)], ids=["faint", "usual", "large"])
def test_values_of_usual_size_give_no_warning(model):
    assert warnings_of(model) == []


def test_one_channel_without_weights_gives_no_warning():
    model = Scaled(1.0)
    model.conv.weight.data[1] = 0
    assert warnings_of(model) == []


# --- too few pictures -------------------------------------------------------------------------------------------------
def seen_by(graph: Graph, pictures: list[Tensor]) -> Extremes:
    return observe(graph, [(x,) for x in pictures], "minmax")[1]


@pytest.fixture(scope="module")
def fasternet() -> Graph:
    torch.manual_seed(0)
    return simplified(build_model("fasternet_t0", (64, 64), 10), PICTURES[0])


def test_the_projects_own_pictures_are_enough(fasternet):
    assert few_pictures(fasternet, seen_by(fasternet, PICTURES)) == []


@pytest.mark.parametrize("count", [2, 3])
def test_a_few_varied_pictures_are_too_few(fasternet, count):
    varied = [PICTURES[i * len(PICTURES) // count] for i in range(count)]
    (warning,) = few_pictures(fasternet, seen_by(fasternet, varied))
    assert warning.startswith(f"{count} calibration samples are too few")
    assert "fasternet.py:" in warning
    enough = int(warning.split("About ")[1].split()[0])
    assert count < enough <= 64


def test_one_picture_tells_nothing_about_the_spread(fasternet):
    (warning,) = few_pictures(fasternet, seen_by(fasternet, PICTURES[:1]))
    assert warning.startswith("ranges come from one sample")


def test_the_bootstrap_repeats_exactly(fasternet):
    extremes = seen_by(fasternet, PICTURES[:4])
    assert overshoots(extremes) == overshoots(extremes)


def test_the_overshoot_is_that_of_pictures_left_out():
    """Of two, a resample leaves one out as often as the other: the wider goes beyond by half the range, or not."""
    share = overshoots({"steady": ([0.0, 0.0], [1.0, 1.0]), "varied": ([0.0, 0.0], [1.0, 2.0])})
    assert share["steady"] == 0
    assert 0.15 < share["varied"] < 0.35


def test_extremes_are_those_of_every_picture_in_one_order(fasternet):
    extremes = seen_by(fasternet, PICTURES[:5])
    lows, highs = extremes[fasternet.inputs[0].name]
    assert sorted(lows) == sorted(float(x.min()) for x in PICTURES[:5])
    by_low = {float(x.min()): float(x.max()) for x in PICTURES[:5]}
    assert [by_low[low] for low in lows] == list(highs)
