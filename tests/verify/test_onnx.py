"""ONNX on onnxruntime: the file cut at its codes, the optimiser's arithmetic, and the command."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from parity import Function, image, simplified, snr
from torch import nn

from exporter.errors import DataError, UsageError
from exporter.lower.facts import Facts
from exporter.lower.onnx import ONNX
from exporter.quantize import quantize
from exporter.quantize.calibrate import calibrate
from exporter.verify.files import open_file, open_runtime
from exporter.verify.onnx import GIVEN, cut_at_codes
from exporter.verify.parity import CodeMeter
from exporter.verify.runtimes.onnxruntime import OnnxRuntime
from exporter.verify.verify import Integers

FACTS = Facts("net", "int8", description="a net", licence="MIT", mean=(0.5,) * 3, std=(0.25,) * 3, labels=("a", "b"))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        y = torch.relu(self.stem(x))
        return {"features": self.body(y) + y, "score": torch.sigmoid(y.mean((2, 3)))}


@pytest.fixture(scope="module")
def x():
    return image(1, 3, 16, 16)


@pytest.fixture(scope="module")
def graphs(x):
    """The float graph and the int8 one."""
    torch.manual_seed(0)
    graph = simplified(Net(), x)
    integer = graph.clone()
    quantize(integer, calibrate(graph, [(x,)], "minmax"))
    return graph, integer


@pytest.fixture(scope="module")
def file(graphs, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "net.onnx"
    ONNX().write(graphs[1], path, FACTS)
    return path


def test_the_same_graph_gives_the_same_bytes(graphs, file, tmp_path):
    ONNX().write(graphs[1], tmp_path / "again.onnx", FACTS)
    assert (tmp_path / "again.onnx").read_bytes() == file.read_bytes()


def test_parameters_weights_and_facts_are_in_the_file_as_planned(graphs, file):
    model = onnx.load(file)
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in graphs[1].nodes:
        if node.op.name == "conv2d":
            weight, bias = node.inputs[1:]
            np.testing.assert_array_equal(stored[weight.name], weight.const.numpy())
            np.testing.assert_array_equal(stored[bias.name], bias.const.numpy())
    pairs = [n for n in model.graph.node if n.op_type == "QuantizeLinear"]
    written = {n.output[0]: (float(stored[n.input[1]]), int(stored[n.input[2]])) for n in pairs}
    planned = {v.name: (v.quant.scale[0], v.quant.zero_point) for n in graphs[1].nodes for v in n.outputs if v.quant}
    assert written == planned
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties["labels"] == "a\nb"
    assert json.loads(properties["mean"]) == [0.5, 0.5, 0.5]
    assert (properties["license"], model.doc_string) == ("MIT", "a net")


def test_every_op_alone_gives_the_codes_of_the_interpreter(graphs, file, x):
    opened = open_file(file, graphs[1])
    rows = list(
        opened.integer_rows((x,), opened.fetch(opened.runtime.run(opened.feed((x,)))), Integers(graphs[1]).run((x,)))
    )
    assert {label.split()[0] for label, *_ in rows} == {"quantize", "conv2d", "add", "mean", "sigmoid"}
    assert max(int((ours.int() - theirs.int()).abs().max()) for _, ours, theirs in rows) <= 1


def test_an_op_that_computes_otherwise_is_seen_by_itself(graphs, file, x, tmp_path):
    """One weight changed: the row of convolutions shows it, those behind it do not inherit the damage."""
    model = onnx.load(file)
    weight = next(n.inputs[1].name for n in graphs[1].nodes if n.op.name == "conv2d")
    tensor = next(t for t in model.graph.initializer if t.name == weight)
    codes = onnx.numpy_helper.to_array(tensor).copy()
    codes.flat[0] = -codes.flat[0] if abs(int(codes.flat[0])) > 20 else 100
    tensor.CopyFrom(onnx.numpy_helper.from_array(codes, weight))
    onnx.save(model, tmp_path / "changed.onnx")
    opened = open_file(tmp_path / "changed.onnx", graphs[1])
    apart = {}
    for label, ours, theirs in opened.integer_rows((x,), [], Integers(graphs[1]).run((x,))):
        kind = label.split()[0]
        apart[kind] = max(apart.get(kind, 0), int((ours.int() - theirs.int()).abs().max()))
    assert apart.pop("conv2d") > 1
    assert max(apart.values()) <= 1


ROUGH = {
    "leaky ReLU": lambda x: torch.nn.functional.leaky_relu(x, 0.1),
    "clamp": lambda x: x.clamp(-0.3, 0.7),
    "resize": lambda x: torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear"),
    "square root": lambda x: (x * x).sqrt(),
}


@pytest.mark.parametrize("name", ROUGH)
def test_ops_whose_kernels_count_in_fixed_point_give_their_codes(name, x, tmp_path):
    graph = simplified(Function(ROUGH[name]), x)
    quantize(graph, calibrate(graph, [(x,)], "minmax"))
    ONNX().write(graph, tmp_path / "net.onnx", FACTS)
    rows = _measured(tmp_path / "net.onnx", graph, x)
    assert min(row.equal for row in rows) >= 0.999


def _measured(path, graph, x):
    meters = [CodeMeter(label) for label in "abcdefgh"]
    rows = list(open_file(path, graph).integer_rows((x,), [], Integers(graph).run((x,))))
    for meter, (_, ours, theirs) in zip(meters, rows, strict=False):
        meter.add(ours, theirs)
    return [meter.result() for meter in meters[: len(rows)]]


def test_a_code_beside_the_right_one_is_counted(graphs, file, x, tmp_path):
    """A scale that is 1 % too wide moves codes by one: neither the interpreter nor rounding gives them."""
    model = onnx.load(file)
    name = next(n.output.name for n in graphs[1].nodes if n.op.name == "add")
    last = next(n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.output[0] == name)
    tensor = next(t for t in model.graph.initializer if t.name == last.input[1])
    wrong = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * np.float32(1.01), "wrong scale")
    model.graph.initializer.append(wrong)
    last.input[1] = "wrong scale"
    onnx.save(model, tmp_path / "wide.onnx")
    assert min(row.equal for row in _measured(tmp_path / "wide.onnx", graphs[1], x)) < 0.9


def test_a_cut_model_takes_every_code_that_an_op_reads(graphs, file):
    cut = onnx.load_from_string(cut_at_codes(onnx.load(file)))
    onnx.checker.check_model(cut, full_check=True)
    read = {v.name for n in graphs[1].nodes for v in n.inputs if v.const is None and v.quant}
    assert {entry.name for entry in cut.graph.input} == {"x"} | {name + GIVEN for name in read}


def test_float16_is_how_weights_are_stored_and_nothing_else(graphs, x, tmp_path):
    """Arithmetic stays float32: each float16 tensor is a weight that a Cast alone reads."""
    ONNX().write(graphs[0], tmp_path / "half.onnx", Facts("net", "float16"))
    model = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "half.onnx"), strict_mode=True)
    halves = {t.name for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT16}
    assert len(halves) == 4
    assert {n.op_type for n in model.graph.node if halves & set(n.input)} == {"Cast"}
    computed = [*model.graph.value_info, *model.graph.input, *model.graph.output]
    assert {info.type.tensor_type.elem_type for info in computed} == {onnx.TensorProto.FLOAT}
    got = OnnxRuntime(tmp_path / "half.onnx").run([x.numpy()])
    torch.manual_seed(0)
    expected = Net()(x)
    assert 50 < snr(torch.from_numpy(got["features"]), expected["features"].detach()) < 100


def test_an_app_reads_the_facts_through_onnxruntime(file):
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    meta = session.get_modelmeta()
    assert (meta.description, meta.producer_name) == ("a net", "edge-export")
    facts = meta.custom_metadata_map
    assert facts["labels"].splitlines() == ["a", "b"]
    assert (json.loads(facts["mean"]), json.loads(facts["std"])) == ([0.5] * 3, [0.25] * 3)
    assert (facts["name"], facts["precision"], facts["license"]) == ("net", "int8", "MIT")
    assert [i.name for i in session.get_inputs()] == ["x"]
    assert [o.name for o in session.get_outputs()] == ["features", "score"]


@pytest.mark.parametrize("io", ["float", "int8", "uint8"])
def test_a_net_whose_every_value_is_an_output_is_verified_on_every_sample(io, x, tmp_path):
    """Then the interpreter's codes of the outputs are those of all ops, but not of the input."""
    graph = simplified(Function(lambda x: (y := x.relu(), y.tanh())), x)
    quantize(graph, calibrate(graph, [(x,)], "minmax"), io=io)
    ONNX().write(graph, tmp_path / "net.onnx", Facts("net", "int8"))
    opened, integers = open_file(tmp_path / "net.onnx", graph), Integers(graph)
    rows = [list(opened.integer_rows((x,), [], integers.run((x,)))) for _ in range(2)]
    assert rows[0]
    assert rows[1] == []


def test_codes_that_pass_through_unchanged_are_no_float_op(x, tmp_path):
    graph = simplified(Function(lambda x: x), x)
    quantize(graph, calibrate(graph, [(x,)], "minmax"), io="int8")
    ONNX().write(graph, tmp_path / "net.onnx", Facts("net", "int8"))
    facts = open_file(tmp_path / "net.onnx", graph).facts("int8", [], {}, True)
    assert (facts.integer_share, facts.float_ops) == (1.0, ())


def test_an_input_may_be_an_output_and_a_value_two(tmp_path):
    graph = simplified(Function(lambda x: (x, x.relu(), x.relu())), image(1, 2))
    ONNX().write(graph, tmp_path / "net.onnx", Facts("net"))
    onnx.checker.check_model(onnx.load(tmp_path / "net.onnx"), full_check=True)
    results = OnnxRuntime(tmp_path / "net.onnx").run([np.array([[-1, 2]], np.float32)])
    assert [r.tolist() for r in results.values()] == [[[-1, 2]], [[0, 2]], [[0, 2]]]


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "not an ONNX model"), (b"hello", "not an ONNX model"), (None, "there is no file")]
)
def test_what_is_no_model_is_refused(tmp_path, content, said):
    path = tmp_path / "x.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=said):
        open_runtime(path)


def test_a_truncated_file_is_refused(file, tmp_path):
    (tmp_path / "cut.onnx").write_bytes(file.read_bytes()[:-200])
    with pytest.raises(DataError, match="not a readable ONNX file"):
        open_runtime(tmp_path / "cut.onnx", sound=True)


def test_arrays_that_do_not_fit_are_named(file):
    with pytest.raises(UsageError, match="do not fit"):
        open_runtime(file).run([np.zeros((1, 3, 8, 8), np.float32)])
