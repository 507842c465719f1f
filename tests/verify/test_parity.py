"""The meters: SNR and codes, and the facts of a file's borders."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from exporter.capture import capture
from exporter.lower.facts import Facts
from exporter.lower.tflite import TFLite
from exporter.quantize import quantize
from exporter.quantize.calibrate import calibrate
from exporter.simplify import simplify
from exporter.verify.parity import CodeMeter, SnrMeter, decibel
from exporter.verify.tflite import file_facts


@pytest.mark.parametrize(
    ("signal", "noise", "expected"),
    [
        (100.0, 1.0, 20.0),
        (1.0, 0.0, math.inf),
        (0.0, 1.0, -math.inf),
        (1.0, math.inf, -math.inf),
        (1.0, math.nan, -math.inf),
    ],
)
def test_decibel(signal: float, noise: float, expected: float) -> None:
    assert decibel(signal, noise) == expected


def test_snr_pools_over_samples_and_takes_the_median_of_each() -> None:
    meter = SnrMeter("y")
    for error in (0.1, 0.01, 0.001):
        meter.add(torch.ones(4), torch.ones(4) + error)
    row = meter.result()
    assert row.pooled == pytest.approx(10 * math.log10(3 / (0.01 + 0.0001 + 0.000001)), abs=1e-3)
    assert row.median == pytest.approx(40, abs=1e-3)
    assert row.max_error == pytest.approx(0.1, abs=1e-6)


def test_an_output_with_nan_is_never_exact() -> None:
    meter = SnrMeter("y")
    meter.add(torch.ones(2), torch.tensor([1.0, math.nan]))
    assert meter.result().pooled == -math.inf
    assert math.isnan(meter.result().max_error)


def test_codes_count_what_differs_and_by_how_much() -> None:
    meter = CodeMeter("y")
    meter.add(torch.tensor([1, 2, 3, -128]), torch.tensor([1, 2, 5, -127]))
    row = meter.result()
    assert (row.equal, row.max_lsb, row.count) == (0.5, 2, 4)
    meter.add(torch.zeros(4), torch.zeros(4))
    assert (meter.result().equal, meter.result().max_lsb) == (0.75, 2)


class Divides(torch.nn.Module):
    """An op without int8 between two that have it."""

    def forward(self, x: Tensor) -> Tensor:
        return x / (x * x + 1.0)


@pytest.mark.parametrize(("io", "borders"), [("int8", 0), ("float", 1), ("uint8", 2)])
def test_conversions_of_a_float_island_are_no_borders(io: str, borders: int, tmp_path: Path) -> None:
    x = torch.linspace(-2, 2, 24).reshape(1, 2, 3, 4)
    graph = simplify(capture(Divides(), (x,)))
    _, islands = quantize(graph, calibrate(graph, [(x,)], "minmax"), io=io)
    TFLite().write(graph, tmp_path / "m.tflite", Facts("m", "int8"))
    facts = file_facts(tmp_path / "m.tflite", graph, "int8", islands)
    assert (facts.integer_ops, facts.border_ops) == (2, borders)
    behind = {"QUANTIZE"} if io != "float" else set()  # a float output is the island's own
    assert {row.op for row in facts.float_ops} == {"DEQUANTIZE", "DIV"} | behind
