"""Ops that XNNPACK counts in fixed point: onnxruntime gives the interpreter's code for every code that can come in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from parity import Function, image, simplified
from torch import Tensor

from exporter.ir.graph import Graph
from exporter.ir.quant import QuantParams, fp16_grid
from exporter.ir.run import Interpreter
from exporter.lower.facts import Facts
from exporter.lower.onnx import ONNX
from exporter.quantize import quantize
from exporter.verify.runtimes.onnxruntime import OnnxRuntime

CODES = torch.arange(-128, 128, dtype=torch.int8).reshape(1, 1, 16, 16)
RATIOS = [0.041, 0.125, 0.25, 0.499, 0.5, 0.7, 0.75, 0.998, 1.0, 1.5, 1.61, 2.0, 3.25, 17.3, 100.0]
"""Scale of the operand by that of the result: halves abound at 0.5 and 1.5."""

POINTWISE = {
    "relu": torch.relu,
    "relu6": lambda x: F.relu6(x * 1.0),
    "clamp": lambda x: x.clamp(-0.3, 0.7),
    "leaky_relu": lambda x: F.leaky_relu(x, 0.1),
    "leaky_relu of half": lambda x: F.leaky_relu(x, 0.5),
    "leaky_relu that rises": lambda x: F.leaky_relu(x, -0.3),
    "sqrt": torch.sqrt,
}


def graph_of(function, source: QuantParams, result: QuantParams, *shape: int) -> Graph:
    """An int8 graph of one op, whose operand and result have these parameters."""
    graph = simplified(Function(function), torch.zeros(shape))
    (value,), output = graph.inputs, graph.outputs[0]
    quantize(graph, None, {value.name: source, output.name: result}, io="int8")
    return graph


def both(graph: Graph, codes: Tensor, folder: Path) -> tuple[Tensor, Tensor]:
    """What the interpreter and the file give."""
    ONNX().write(graph, folder / "op.onnx", Facts("op", "int8"))
    (got,) = OnnxRuntime(folder / "op.onnx", optimise=False).run([codes.numpy()]).values()
    (expected,) = Interpreter(graph).run([codes])
    return expected, torch.from_numpy(got)


@pytest.mark.parametrize("name", POINTWISE)
def test_all_codes_at_many_ratios(name, tmp_path):
    for number, ratio in enumerate(RATIOS):
        scale = fp16_grid(0.013 + 0.001 * number)
        zero_points = (-128, -128) if name == "sqrt" else (7 * number - 60, 50 - 9 * number)
        source, result = (
            QuantParams((fp16_grid(s),), z) for s, z in zip((scale * ratio, scale), zero_points, strict=True)
        )
        expected, got = both(graph_of(POINTWISE[name], source, result, 1, 1, 16, 16), CODES, tmp_path)
        assert torch.equal(expected, got), f"{name} at {ratio}: {int((expected != got).sum())} of 256 differ"


@pytest.mark.parametrize("ratio", RATIOS)
def test_all_codes_to_codes_of_another_scale(ratio, tmp_path):
    graph = graph_of(torch.relu, QuantParams((0.5,)), QuantParams((0.5,)), 1, 1, 16, 16)
    source, result = QuantParams((fp16_grid(0.02 * ratio),), 11), QuantParams((fp16_grid(0.02),), -40)
    x = graph.inputs[0]
    x.quant = source
    output = graph.emit("quantize", [x], name="codes")
    output.quant = result
    graph.set_outputs({"codes": output})
    graph.prune()
    expected, got = both(graph, CODES, tmp_path)
    assert torch.equal(expected, got)


SIZES = [
    pytest.param((8, 8), (16, 16), id="doubled"),
    pytest.param((8, 8), (32, 24), id="four-and-three-times"),
    pytest.param((16, 12), (32, 24), id="lite-hrnet"),
    pytest.param((7, 9), (20, 31), id="by-a-fraction"),
    pytest.param((16, 16), (8, 8), id="halved"),
    pytest.param((13, 17), (5, 4), id="shrunk"),
    pytest.param((1, 1), (4, 4), id="one-pixel"),
    pytest.param((5, 5), (1, 1), id="to-one-pixel"),
]


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize(("size", "target"), SIZES)
def test_resized_images(size, target, aligned, tmp_path):
    """Of 32 channels of random codes at most 3 in 10^4 differ: so near to a half that they are moved over it."""
    params = QuantParams((fp16_grid(0.031),), -17)
    resize = Function(lambda x: F.interpolate(x, target, mode="bilinear", align_corners=aligned))
    graph = graph_of(resize.function, params, params, 1, 32, *size)
    codes = image(1, 32, *size, low=-128, high=128).floor().to(torch.int8)
    expected, got = both(graph, codes, tmp_path)
    assert int((expected.int() - got.int()).abs().max()) <= 1
    assert float((expected == got).double().mean()) >= 0.9997


@pytest.mark.parametrize(
    ("size", "target", "aligned", "ops"),
    [
        ((8, 8), (32, 32), False, ["Resize"]),
        ((5, 9), (9, 17), True, ["Resize"]),
        ((8, 8), (24, 24), False, ["MatMul", "MatMul"]),
        ((8, 6), (16, 12), True, ["MatMul", "MatMul"]),
    ],
)
def test_an_image_is_resized_by_its_own_op_where_the_weights_are_exact(size, target, aligned, ops, tmp_path):
    params = QuantParams((0.5,))
    graph = graph_of(
        lambda x: F.interpolate(x, target, mode="bilinear", align_corners=aligned), params, params, 1, 2, *size
    )
    ONNX().write(graph, tmp_path / "op.onnx", Facts("op", "int8"))
    nodes = onnx.load(tmp_path / "op.onnx").graph.node
    assert [n.op_type for n in nodes if n.op_type in ("Resize", "MatMul")] == ops


def test_in_float_nothing_is_moved(tmp_path):
    """The factors and nudges are the int8 kernels': a float file has the ops alone."""
    graph = simplified(
        Function(lambda x: F.interpolate(F.leaky_relu(x.relu() - 0.2), (7, 7), mode="bilinear").clamp(0, 1).sqrt()),
        image(1, 2, 4, 4),
    )
    ONNX().write(graph, tmp_path / "float.onnx", Facts("float"))
    kinds = [n.op_type for n in onnx.load(tmp_path / "float.onnx").graph.node]
    assert kinds == ["Relu", "Sub", "LeakyRelu", "Resize", "Clip", "Sqrt"]
    assert np.isfinite(
        OnnxRuntime(tmp_path / "float.onnx").run([np.ones((1, 2, 4, 4), np.float32)])[graph.output_names[0]]
    ).all()
