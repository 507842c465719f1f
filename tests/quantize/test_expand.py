"""Ops that quantize replaces by others, which have a fast int8 kernel."""

from __future__ import annotations

import pytest
import torch.nn.functional as F
from parity import image, run_float, simplified, snr
from torch import nn

from exporter.ir.check import check
from exporter.quantize.calibrate import calibrate
from exporter.quantize.expand import EXPANSIONS, SIX, expand

X = image(1, 3, 8, 8, low=-5, high=5)

CASES = {
    "silu": (F.silu, ["sigmoid", "mul"]),
    "hard_swish": (F.hardswish, ["add", "mul", "mul"]),
    "mish": (F.mish, ["mul", "add", "mul", "add", "mul", "add", "sigmoid", "mul"]),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, 2), ["conv2d"]),
    "avg_pool2d of counted padding": (lambda x: F.avg_pool2d(x, 3, 1, 1), ["conv2d"]),
    "avg_pool2d of uncounted padding": (lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), ["conv2d", "mul"]),
}


def test_every_expansion_has_a_case():
    assert {name.split()[0] for name in CASES} == set(EXPANSIONS)


@pytest.mark.parametrize("name", CASES)
def test_an_expansion_computes_the_same(name):
    model, ops = CASES[name]
    graph = simplified(model, X)
    (expected,) = run_float(graph, X)
    expand(graph, calibrate(graph, [(X,)], "minmax"))
    check(graph)
    assert [node.op.name for node in graph.nodes] == ops
    assert snr(run_float(graph, X)[0], expected) > (40 if name == "mish" else 120)  # mish: a polynomial is in it


@pytest.mark.parametrize("act", [nn.SiLU(), nn.Hardswish(), nn.AvgPool2d(2)])
def test_the_result_keeps_its_name_range_and_source(act):
    graph = simplified(nn.Sequential(nn.Conv2d(3, 4, 1), act), X)
    name = graph.outputs[0].name
    ranges = calibrate(graph, [(X,)], "minmax")
    expand(graph, ranges)
    assert graph.outputs[0].name == name
    assert name in ranges
    assert {node.source.module for node in graph.nodes} == {"0", "1"}


def test_values_that_no_calibration_saw_get_their_ranges():
    graph = simplified(F.hardswish, X)
    ranges = calibrate(graph, [(X,)], "minmax")
    expand(graph, ranges)
    assert [ranges[node.output.name] for node in graph.nodes[:2]] == [(0, SIX), (0, SIX / 6)]


def test_a_pad_that_others_read_stays():
    def model(x):
        wide = F.pad(x, (1, 1, 1, 1))
        return F.avg_pool2d(wide, 3, 1), wide

    graph = simplified(model, X)
    expand(graph, {})
    assert [node.op.name for node in graph.nodes] == ["pad", "conv2d"]
