"""`inspect` of .onnx files: ours, others', and what is none."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from parity import simplified
from torch import nn

from exporter.errors import DataError, RuntimeUnavailable
from exporter.lower.facts import Facts
from exporter.lower.onnx import ONNX
from exporter.quantize import quantize
from exporter.quantize.calibrate import calibrate
from exporter.report.inspect import inspect_file

FACTS = Facts(
    "net",
    "int8",
    description="a net",
    licence="MIT",
    author="someone",
    mean=(0.5,) * 3,
    std=(0.25,) * 3,
    labels=("a", "b"),
)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Linear(8, 2)

    def forward(self, image):
        return {"score": self.head(self.stem(image).relu().mean((2, 3)))}


@pytest.fixture(scope="module")
def net():
    return Net().eval().requires_grad_(False)


@pytest.fixture
def example():
    return torch.rand(1, 3, 16, 16)


def test_int8_file_of_ours(net, example, tmp_path):
    path = tmp_path / "net.onnx"
    graph = simplified(net, example)
    quantize(graph, calibrate(graph, [(example,)], "minmax"), None, "float")
    ONNX().write(graph, path, FACTS)
    found = inspect_file(path)
    assert (found.format, found.name, found.description, found.author, found.licence) == (
        "ONNX",
        "net",
        "a net",
        "someone",
        "MIT",
    )
    assert found.needs == "opset 20: ONNX 1.15.0 or newer"
    assert found.weights == {"int8": 3 * 8 * 9 + 2 * 8}
    assert (found.float_ops, found.tail_ops, found.labels) == (0, 0, 2)
    kinds = {kind.op: kind.count for kind in found.ops}
    assert found.integer_ops == sum(kinds.values()) - kinds["QuantizeLinear"] - kinds["DequantizeLinear"]
    assert found.inputs[0].mean == pytest.approx((127.5,) * 3)
    assert found.inputs[0].std == pytest.approx((63.75,) * 3)
    assert found.sizes.total == path.stat().st_size
    assert found.details == {"producer": "edge-export"}


@pytest.mark.parametrize(("precision", "dtype"), [("float32", "float32"), ("float16", "float16")])
def test_float_files_of_ours(net, example, tmp_path, precision, dtype):
    path = tmp_path / "net.onnx"
    ONNX().write(simplified(net, example), path, Facts("net", precision))
    found = inspect_file(path)
    assert list(found.weights) == [dtype]
    assert (found.integer_ops, found.border_ops) == (0, 0)
    assert [(t.name, t.shape, t.dtype) for t in (*found.inputs, *found.outputs)] == [
        ("image", (1, 3, 16, 16), "float32"),
        ("score", (1, 2), "float32"),
    ]


def test_integer_inputs_and_outputs_have_their_scales(tmp_path):
    """Of another's file: codes in, codes out."""
    scale, zero = numpy_helper.from_array(np.float32(0.5), "s"), numpy_helper.from_array(np.int8(3), "z")
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "s", "z"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("QuantizeLinear", ["b", "s", "z"], ["y"]),
    ]
    path = save(tmp_path, nodes, [("x", TensorProto.INT8, [1, 4])], [("y", TensorProto.INT8, [1, 4])], [scale, zero])
    found = inspect_file(path)
    assert [(t.dtype, t.scale, t.zero_point) for t in (*found.inputs, *found.outputs)] == [("int8", 0.5, 3)] * 2
    assert (found.integer_ops, found.float_ops, found.border_ops) == (1, 0, 2)


def test_foreign_file(tmp_path):
    """Sides by name, constants as nodes, ops of another domain, weights beside the file."""
    kernel = numpy_helper.from_array(np.ones((4, 4), np.float32), "k")
    nodes = [
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.ones((4, 2), np.float32))),
        helper.make_node("MatMul", ["x", "k"], ["a"]),
        helper.make_node("MatMul", ["a", "c"], ["b"]),
        helper.make_node("FusedGelu", ["b"], ["y"], domain="com.example"),
    ]
    path = save(tmp_path, nodes, [("x", TensorProto.FLOAT, ["batch", 4])], [("y", TensorProto.FLOAT, None)], [kernel],
                beside="net.data")  # fmt: skip
    found = inspect_file(path)
    assert found.inputs[0].shape == ("batch", 4)
    assert found.weights == {"float32": 4 * 4 + 4 * 2}
    assert found.sizes.total == path.stat().st_size + 64
    assert {kind.op: kind.count for kind in found.ops} == {"MatMul": 2, "FusedGelu": 1}
    assert found.details == {"producer": "other 1", "other opsets": "com.example 1", "weights in": "net.data"}
    (tmp_path / "net.data").unlink()
    assert inspect_file(path).details["weights in"] == "net.data, which is missing"


def save(folder, nodes, inputs, outputs, initializers, beside=None):
    given, made = ([helper.make_tensor_value_info(*row) for row in side] for side in (inputs, outputs))
    graph = helper.make_graph(nodes, "net", given, made, initializers)
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid("com.example", 1)] if beside else [])]
    model = helper.make_model(graph, opset_imports=opsets, producer_name="other", producer_version="1")
    path = folder / "net.onnx"
    more = {"save_as_external_data": True, "location": beside, "size_threshold": 0} if beside else {}
    onnx.save(model, path, **more)
    return path


BROKEN = {
    "missing": (lambda path, model: None, "cannot read"),
    "empty": (lambda path, model: path.touch(), "is not a readable ONNX file"),
    "text": (lambda path, model: path.write_text("hello world"), "is not a readable ONNX file"),
    "tflite": (lambda path, model: path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(64)), "is not a readable ONNX file"),
    "half": (lambda path, model: path.write_bytes(model[: len(model) // 2]), "is not a readable ONNX file"),
}


@pytest.mark.parametrize(("make", "said"), BROKEN.values(), ids=BROKEN)
def test_what_is_no_onnx_file(net, example, tmp_path, make, said):
    whole = tmp_path / "whole.onnx"
    ONNX().write(simplified(net, example), whole, FACTS)
    make(tmp_path / "net.onnx", whole.read_bytes())
    with pytest.raises(DataError, match=said):
        inspect_file(tmp_path / "net.onnx")


def test_every_truncation_is_refused(net, example, tmp_path):
    whole, cut = tmp_path / "whole.onnx", tmp_path / "cut.onnx"
    ONNX().write(simplified(net, example), whole, Facts("net"))
    content = whole.read_bytes()
    for length in range(0, len(content) - 64, 7):
        cut.write_bytes(content[:length])
        with pytest.raises(DataError):
            inspect_file(cut)


def test_without_onnx(monkeypatch, tmp_path):
    import sys

    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(RuntimeUnavailable) as failure:
        inspect_file(tmp_path / "net.onnx")
    assert failure.value.try_ == ('pip install "edge-export[onnx]"',)
