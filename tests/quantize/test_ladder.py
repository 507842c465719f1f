"""The repair ladder: stops where the drop holds, takes back what gains nothing, keeps within the integer share."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from exporter.capture import capture
from exporter.ir.macs import integer_macs
from exporter.quantize import quantize
from exporter.quantize.calibrate import calibrate
from exporter.quantize.sensitivity import measured_snr
from exporter.repair import LEAST_INTEGER, Attempt, Workshop, climb
from exporter.simplify import simplify


class Body(nn.Module):
    """A heavy middle between a light stem and a light head whose SiLU hides channels from equalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.middle = nn.ModuleList([nn.Conv2d(32 if i else 8, 32, 3, padding=1) for i in range(3)])
        self.head = nn.Conv2d(32, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.silu(self.stem(x))
        for layer in self.middle:
            x = nn.functional.silu(layer(x))
        return self.head(x)


@pytest.fixture(scope="module")
def start() -> tuple[Attempt, Workshop]:
    torch.manual_seed(0)
    module = Body().eval()
    with torch.no_grad():
        module.stem.weight[0] *= 64  # one channel owns the stem's range
    samples = [(torch.randn(1, 3, 16, 16),) for _ in range(4)]
    graph = capture(module, samples[0], name="body")
    simplify(graph)

    def quantized(graph, ranges, keep_float):  # type: ignore[no-untyped-def]
        graph = graph.clone()
        return graph, *quantize(graph, ranges, keep_float=keep_float)

    workshop = Workshop(lambda graph: calibrate(graph, samples), quantized, samples, samples[:2])
    return workshop.made(graph, calibrate(graph, samples), (), {}), workshop


def _judge(workshop: Workshop, attempt: Attempt) -> float:
    """The share of noise in the outputs stands for the drop of a metric."""
    return 10 ** (-measured_snr(attempt.graph, attempt.lowered, workshop.held_out) / 20)


def test_nothing_is_done_where_the_drop_holds(start: tuple[Attempt, Workshop]) -> None:
    attempt, workshop = start
    best, rungs = climb(attempt, workshop, lambda attempt: 0.01, 0.01)
    assert best is attempt
    assert [(rung.name, rung.kept) for rung in rungs] == [("as calibrated", True)]


def test_islands_reach_what_equalisation_cannot(start: tuple[Attempt, Workshop]) -> None:
    attempt, workshop = start
    before = _judge(workshop, attempt)
    best, rungs = climb(attempt, workshop, lambda attempt: _judge(workshop, attempt), before * 0.9)
    assert _judge(workshop, best) <= before * 0.9
    assert rungs[-1].name == "float islands"
    assert rungs[-1].kept
    assert best.keep_float
    share = integer_macs(best.lowered)
    assert share is not None
    assert LEAST_INTEGER <= share < 1


def test_a_hopeless_model_stays_within_the_integer_share_and_gains_are_never_lost(
    start: tuple[Attempt, Workshop],
) -> None:
    attempt, workshop = start
    best, rungs = climb(attempt, workshop, lambda attempt: _judge(workshop, attempt), 0.0)
    assert {rung.name for rung in rungs} >= {"as calibrated", "float islands"}
    assert all(rung.integer_macs is not None and rung.integer_macs >= LEAST_INTEGER for rung in rungs)
    kept = [rung.drop for rung in rungs if rung.kept]
    assert kept == sorted(kept, reverse=True)
    assert _judge(workshop, best) == kept[-1]
