"""--onnx-reduce-range: weights of 7 bits in all formats, with which kernels that add pairs in 16 bits are right."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from parity import image, simplified
from torch import nn

from exporter.errors import DataError, UsageError
from exporter.ir.graph import Graph
from exporter.lower.facts import Facts
from exporter.lower.onnx import ONNX
from exporter.quantize import quantize
from exporter.quantize.calibrate import calibrate
from exporter.recipe import load_recipe
from exporter.verify.files import open_file
from exporter.verify.runtimes.onnxruntime import OnnxRuntime, multiplies_in_16_bits

X = image(1, 16, 8, 8, low=0.5, high=1.0)


def heavy() -> nn.Module:
    """Large weights of one sign on large inputs: every pair of 8-bit products exceeds 2^15."""
    torch.manual_seed(0)
    first, second = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 1)
    with torch.no_grad():
        for layer in (first, second):
            layer.weight.uniform_(0.8, 1.0)
    return nn.Sequential(first, nn.ReLU(), second)


def quantised(reduce_range: bool) -> Graph:
    graph = simplified(heavy(), X)
    quantize(graph, calibrate(graph, [(X,)], "minmax"), io="float", reduce_range=reduce_range)
    return graph


def codes(graph: Graph) -> list[int]:
    return [int(n.inputs[1].const.abs().max()) for n in graph.nodes if n.op.name == "conv2d"]


def test_weights_have_7_bits_and_the_rest_stays():
    full, reduced = quantised(False), quantised(True)
    assert codes(full) == [127, 127]
    assert codes(reduced) == [63, 63]
    for a, b in zip(full.nodes, reduced.nodes, strict=True):
        assert a.output.quant == b.output.quant


def test_second_operands_of_matmuls_too():
    graph = simplified(lambda x: x.tanh() @ x.relu().mT, image(1, 4, 8))
    plan, _ = quantize(graph, calibrate(graph, [(image(1, 4, 8),)], "minmax"), io="int8", reduce_range=True)
    (right,) = (n.inputs[1] for n in graph.nodes if n.op.name == "matmul")
    assert plan[right.name].scale[0] * 63 >= float(image(1, 4, 8).relu().max())


@pytest.mark.parametrize("reduce_range", [False, True])
def test_the_optimisers_kernels_saturate_with_8_bits_and_are_right_with_7(reduce_range, tmp_path):
    graph = quantised(reduce_range)
    ONNX().write(graph, tmp_path / "net.onnx", Facts("net", "int8"))
    ((fast,), (sound,)) = (
        OnnxRuntime(tmp_path / "net.onnx", optimise=on).run([X.numpy()]).values() for on in (True, False)
    )
    scale = next(n for n in graph.nodes if n.op.name == "dequantize").inputs[0].quant.scale[0]
    apart = float(np.abs(fast - sound).max()) / scale
    warned = open_file(tmp_path / "net.onnx", graph).warnings((X,))
    if multiplies_in_16_bits() and not reduce_range:
        assert apart > 10
        (said,) = warned
        assert "--onnx-reduce-range" in said
        assert "no VNNI" in said
    else:
        assert apart < 1.5  # one LSB: a sum that is nearly a tie
        assert warned == []


def test_a_plan_of_8_bits_is_refused():
    graph = simplified(heavy(), X)
    plan, _ = quantize(graph, calibrate(graph, [(X,)], "minmax"))
    with pytest.raises(DataError, match="the plan cannot hold") as caught:
        quantize(simplified(heavy(), X), None, plan, reduce_range=True)
    assert "exceed 63 times the scale" in caught.value.where[0]


def test_a_plan_of_7_bits_is_a_plan():
    graph = simplified(heavy(), X)
    plan, _ = quantize(graph, calibrate(graph, [(X,)], "minmax"), reduce_range=True)
    again = simplified(heavy(), X)
    quantize(again, None, plan)
    assert codes(again) == [63, 63]


@pytest.mark.parametrize(
    "options",
    [{"precision": "float32", "targets": ("onnx",)}, {"precision": "int8", "targets": ("tflite",)}],
)
def test_where_it_would_only_cost_accuracy_it_is_refused(options):
    with pytest.raises(UsageError, match="does not fit") as caught:
        load_recipe("fasternet_t0", onnx_reduce_range=True, **options)
    assert "onnx_reduce_range" in caught.value.where[0]
