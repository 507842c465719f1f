"""Scales of products: one code on x86 and on ARM, for every pair of codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from parity import image, simplified, write
from torch import nn

from exporter.ir.graph import Graph
from exporter.ir.quant import QuantParams, fp16_grid
from exporter.quantize import quantize
from exporter.quantize.assign import make_plan
from exporter.quantize.ties import ties
from exporter.verify.devices import device
from exporter.verify.differing_op import differing_ops

X, GATE, Y = QuantParams((49 / 2**10,), -122), QuantParams((2.0**-8,), -128), QuantParams((1729 / 2**16,), -122)
"""Of EfficientDet-D0's first squeeze-and-excite: the product's scale is 7/988, so that 494 times it is a half."""


class Gated(nn.Module):
    """A product, and what joins it with others."""

    def __init__(self, join: str = "") -> None:
        super().__init__()
        self.join = join

    def forward(self, x, gate):
        y = x * gate
        if self.join == "concat":
            return torch.cat([y, x + x], 1)
        return torch.cat([y, torch.sigmoid(x)], 1) if self.join == "sigmoid" else y


def gated(join: str = "") -> tuple[Graph, dict[str, tuple[float, float]]]:
    """The graph, and ranges that give these scales."""
    graph = simplified(Gated(join), image(1, 16, 16, 16), image(1, 16, 1, 1))
    ranges = {value.name: params.range for value, params in zip(graph.inputs, (X, GATE), strict=True)}
    return graph, ranges | {node.output.name: Y.range for node in graph.nodes}


def test_the_scales_as_calibrated_meet_halves():
    graph, _ = gated()
    (node,) = graph.nodes
    plan = dict(zip((v.name for v in (*graph.inputs, node.output)), (X, GATE, Y), strict=True))
    assert ties(node, plan, Y) > 0


def test_the_next_scale_of_the_grid_is_taken():
    graph, ranges = gated()
    (node,) = graph.nodes
    plan = make_plan(graph, ranges)
    found = plan[node.output.name]
    assert ties(node, plan, found) == 0
    assert Y.scale[0] < found.scale[0] < 1.01 * Y.scale[0]
    assert found.scale[0] == fp16_grid(found.scale[0])
    assert found.zero_point == Y.zero_point
    assert [plan[value.name] for value in graph.inputs] == [X, GATE]


def test_scales_without_halves_stay():
    graph, ranges = gated()
    (node,) = graph.nodes
    ranges[node.output.name] = QuantParams((1733 / 2**16,), -122).range
    plan = make_plan(graph, ranges)
    assert plan[node.output.name].scale == (1733 / 2**16,)


def test_values_that_share_parameters_go_on_sharing_them():
    graph, ranges = gated("concat")
    plan = make_plan(graph, ranges)
    mul, joined = (next(n for n in graph.nodes if n.op.name == kind) for kind in ("mul", "concat"))
    assert len({plan[value.name] for value in (*joined.inputs, joined.output)}) == 1
    assert ties(mul, plan, plan[mul.output.name]) == 0


def test_fixed_parameters_stay():
    graph, ranges = gated("sigmoid")
    plan = make_plan(graph, ranges)
    (joined,) = (n for n in graph.nodes if n.op.name == "concat")
    assert plan[joined.output.name] == QuantParams((1 / 256,), -128)


@pytest.mark.slow
@pytest.mark.usefixtures("arm64")
@pytest.mark.parametrize("core", ["cortex-a53", "cortex-a76"])
def test_every_product_is_the_same_on_arm(core: str, tmp_path: Path):
    """Every code times each of 16 others; tests/devices/test_differing_op.py has the scales that differ."""
    graph, ranges = gated()
    quantize(graph, ranges, io="int8")
    path = tmp_path / "gated.tflite"
    write(graph, path, "int8")
    codes = np.arange(-128, 128, dtype=np.int8).reshape(1, 16, 16, 1).repeat(16, 3)
    gates = np.arange(-128, 128, 17, dtype=np.int8)[:16].reshape(1, 1, 1, 16)
    feed = dict(zip((value.name for value in graph.inputs), (codes, gates), strict=True))
    assert differing_ops(path, device(f"arm64:{core}"), feed) == ()
