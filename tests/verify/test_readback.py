"""Files read back: everything that they hold of the graph's integers is found and compared, in every format."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from one_number import CHANGED
from parity import Function, image, simplified
from small_detector import make
from torch import Tensor, nn

from exporter.build.postprocess import with_postprocess
from exporter.errors import DataError, ExportError, UsageError
from exporter.ir.graph import Graph
from exporter.lower import Target
from exporter.lower.coreml import CoreML
from exporter.lower.facts import Facts
from exporter.lower.onnx import ONNX
from exporter.lower.tflite import TFLite
from exporter.quantize import quantize
from exporter.quantize.calibrate import calibrate
from exporter.verify.agreement import agree, compare, own_groups
from exporter.verify.readback import Constant, Params, read_back

FORMATS: dict[str, Target] = {
    "tflite": TFLite(),
    "onnx": ONNX(),
    "coreml, iOS 17": CoreML(17),
    "coreml, iOS 18": CoreML(18),
    "coreml, float32": CoreML(arithmetic="float32"),
}
BIASES = {"tflite": "int32", "onnx": "int32", "coreml, float32": "float32"}
"""What biases are held in; elsewhere float16."""
PICTURE, ROWS, TOKENS = (1, 8, 9, 11), (3, 6), (1, 5, 6)


class Shared(nn.Module):
    """One convolution over two sizes, and a value that is returned twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        small = self.conv(torch.nn.functional.max_pool2d(x, 3, 2, 1))
        return {"large": self.conv(x), "small": small, "again": small}


class Linears(nn.Module):
    """A layer of matrices, one behind a flattened picture, one of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.token = nn.Linear(8 * 9 * 11, 4), nn.Linear(11, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.last(x.flatten(1)), self.token(x)


PER_CHANNEL, PER_ROW, MAP, MATRIX = image(8, 1, 1), image(9, 1), image(1, 2, 9, 11), image(2, 6, 6)


def constants(x: Tensor) -> Tensor:
    """Operands of add, mul, sub and of a concat that TFLite has in two parts."""
    y = (x + PER_CHANNEL) * PER_ROW - 0.25
    return torch.cat([y, MAP, x, x + 1, MAP * 0.5, y * 2, x - 2], 1)


def shuffled(x: Tensor) -> Tensor:
    """A convolution of zeros and ones in TFLite, a Gather in ONNX."""
    return x.reshape(1, 2, 4, 9, 11).transpose(1, 2).reshape(1, 8, 9, 11) * 0.5


torch.manual_seed(0)
NETS = {
    "conv2d": (nn.Conv2d(8, 5, 3, stride=2, padding=1), PICTURE),
    "conv2d of one output": (nn.Conv2d(8, 1, (1, 3)), PICTURE),
    "joined groups": (nn.Conv2d(8, 16, 3, groups=4), PICTURE),
    "wide groups": (nn.Conv2d(32, 32, 1, groups=2), (1, 32, 4, 4)),
    "depthwise": (nn.Conv2d(8, 16, 3, groups=8, dilation=2), PICTURE),
    "large depthwise": (nn.Conv2d(8, 8, 7, groups=8, padding=3), PICTURE),
    "conv_transpose2d": (nn.ConvTranspose2d(8, 5, 4, stride=2, padding=1), PICTURE),
    "conv_transpose2d that is cut": (nn.ConvTranspose2d(8, 5, 3, stride=2, padding=(0, 1)), PICTURE),
    "linear": (nn.Linear(6, 4), ROWS),
    "linears": (Linears(), PICTURE),
    "constants": (Function(constants), PICTURE),
    "constant matrix": (Function(lambda x: torch.softmax(x, -1) @ MATRIX), (1, 2, 5, 6)),
    "layer_norm": (nn.LayerNorm(6), TOKENS),
    "shuffle": (Function(shuffled), PICTURE),
    "shared weights, an output twice": (Shared(), PICTURE),
    "pad": (Function(lambda x: torch.nn.functional.pad(x, (1, 2, 0, 1), value=0.5) * 1.5), PICTURE),
    "wide padding of a pool": (nn.MaxPool2d(7, 2, 3), (1, 8, 10, 10)),
    "clamp within a concat": (Function(lambda x: torch.cat([x.clamp(-0.4, 0.7), x * 2], 1)), PICTURE),
    "detector": (with_postprocess(make(), "nms", score_threshold=0.3, max_detections=30), (1, 3, 48, 48)),
    "float island": (Function(lambda x: (x + PER_CHANNEL) / (x.sigmoid() + 1) * 0.5), PICTURE),
    "transposes that cancel": (Function(lambda x: (x * 2).permute(0, 2, 3, 1).reshape(1, 99, 8) + 1), PICTURE),
}


def integers(name: str, io: str = "float") -> Graph:
    """The int8 graph of one of the nets."""
    module, shape = NETS[name]
    x = image(*shape)
    graph = simplified(module, x)
    quantize(graph, calibrate(graph, [(x,)], "minmax"), io=io)
    return graph


def saved(graph: Graph, kind: str, folder: Path) -> Path:
    """The graph as a file."""
    path = folder / f"net{FORMATS[kind].suffix}"
    FORMATS[kind].write(graph, path, Facts("net", "int8"))
    return path


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", NETS)
def test_every_value_is_found_and_equal(name: str, kind: str, tmp_path: Path) -> None:
    graph = integers(name)
    (row,) = agree(graph, {kind: saved(graph, kind, tmp_path)})
    assert row.differences == ()
    operands = [(n, i, v) for n in graph.nodes for i, v in enumerate(n.inputs) if v.const is not None and v.quant]
    biases = [v for n, i, v in operands if n.op.data_inputs == 1 and i == 2]
    weights = [v for n, i, v in operands if not (n.op.data_inputs == 1 and i == 2)]
    activations = [v for v in graph.values() if v.const is None and v.quant]
    assert (row.weights.count, row.weights.equal) == (sum(v.numel for v in weights),) * 2
    assert (row.biases.count, row.biases.equal) == (sum(v.numel for v in biases),) * 2
    assert row.biases_as == (BIASES.get(kind, "float16") if biases else "int32")
    stated = [v for v in activations if v.name not in row.absent] + [v for _, _, v in operands]
    if "coreml" in kind:
        stated = [v for v in stated if v not in biases]
    assert row.parameters.count == row.parameters.equal == len(stated)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", NETS)
def test_every_number_that_is_changed_is_seen(name: str, kind: str, tmp_path: Path) -> None:
    graph = integers(name)
    path = saved(graph, kind, tmp_path)
    seen = {}
    for what, file, content in list(CHANGED[path.suffix](path)):
        whole = file.read_bytes()
        file.write_bytes(content)
        seen[what] = not agree(graph, {kind: path})[0].agrees
        file.write_bytes(whole)
    assert len(seen) >= 2
    assert [what for what in seen if not seen[what]] == []


NAMED = {
    "tflite": ("code of weight", "code of bias.2", "scale of model/conv2d", "zero point of input/codes"),
    "onnx": ("code of weight", "code of bias.2", "scale of model/conv2d", "zero point of input/codes/float"),
    "coreml, iOS 17": ("code of weight", "bias of model_conv2d", "scale of model_conv2d",
                       "zero point of input_codes"),
}  # fmt: skip
"""What is changed, as the file's names begin: a weight, a bias, a scale, a zero point."""


@pytest.mark.parametrize("kind", NAMED)
def test_a_difference_names_the_value_and_says_what_each_side_holds(kind: str, tmp_path: Path) -> None:
    graph = integers("conv2d")
    node = next(n for n in graph.nodes if n.op.name == "conv2d")
    x, weight, bias = node.inputs
    path = saved(graph, kind, tmp_path)
    changes = {what: changed for what, *changed in CHANGED[path.suffix](path)}
    first = int(weight.const.flatten()[0])
    expected = [
        (f"{weight.name} of {node.output.name}", str(first), f"1 of 360 differ, first at [0, 0, 0, 0]: {first ^ 1}"),
        (f"{bias.name} of {node.output.name}", "", "1 of 5 differ"),
        (node.output.name, f"scale {node.output.quant.scale[0]:.9g}", f"zero point {node.output.quant.zero_point}"),
        (x.name, f"zero point {x.quant.zero_point}", f"scale {x.quant.scale[0]:.9g}"),
    ]
    for what, (value, ours, theirs) in zip(NAMED[kind], expected, strict=True):
        file, content = next(changed for name, changed in changes.items() if name.startswith(what))
        whole = file.read_bytes()
        file.write_bytes(content)
        (row,) = agree(graph, {kind: path})
        file.write_bytes(whole)
        difference = {d.value: d for d in row.differences}[value]  # values of one zero point may share the constant
        assert ours in difference.graph
        assert theirs in difference.file


@pytest.mark.parametrize("io", ["float", "int8", "uint8"])
@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_the_borders_are_read_too(io: str, kind: str, tmp_path: Path) -> None:
    graph = integers("joined groups", io)
    (row,) = agree(graph, {kind: saved(graph, kind, tmp_path)})
    assert (row.differences, row.absent) == ((), {})
    assert row.parameters.count == {"float": 2, "int8": 2, "uint8": 4}[io] + 2


@pytest.mark.parametrize(
    ("name", "tflite"),
    {
        "joined groups": 16 * 2 * 9,
        "wide groups": 0,
        "shuffle": 8 * 8 + 8,
        "pad": 1,
        "wide padding of a pool": 1,
        "clamp within a concat": 0,
    }.items(),
)
def test_what_a_format_adds_is_counted(name: str, tflite: int, tmp_path: Path) -> None:
    """Zeros between groups, a matrix that copies channels with its bias, the code around a padded tensor."""
    graph = integers(name)
    rows = agree(graph, {kind: saved(graph, kind, tmp_path) for kind in ("tflite", "onnx", "coreml, iOS 17")})
    assert [row.added for row in rows] == [tflite, 0, 0]


def test_parameters_that_a_format_states_in_pairs_alone_may_be_absent(tmp_path: Path) -> None:
    """An input of codes that goes out as it came in: ONNX has no pair for it, TFLite's tensors have parameters."""
    x = image(1, 4)
    graph = simplified(Function(lambda x: (x, x * 2)), x)
    quantize(graph, calibrate(graph, [(x,)], "minmax"), io="int8")
    graph.set_outputs({"same": graph.inputs[0]})
    graph.prune()
    tflite, onnx = agree(graph, {kind: saved(graph, kind, tmp_path) for kind in ("tflite", "onnx")})
    assert (tflite.absent, tflite.parameters.equal) == ({}, 1)
    assert (onnx.absent, onnx.parameters.count) == ({graph.inputs[0].name: "an input of codes that no pair reads"}, 0)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_of_another_graph_differs_everywhere(kind: str, tmp_path: Path) -> None:
    path = saved(integers("linears"), kind, tmp_path)
    graph = integers("conv2d")
    (row,) = agree(graph, {kind: path})
    assert (row.weights.equal, row.biases.equal) == (0, 0)
    assert "no such constant" in {difference.file for difference in row.differences}
    assert "no such constant" in {difference.graph for difference in row.differences}


def test_weights_that_are_held_as_floats_are_no_integers(tmp_path: Path) -> None:
    """Even where they stand for the same numbers: the promise is about integers."""
    graph = integers("conv2d")
    stored = read_back(saved(graph, "coreml, iOS 17", tmp_path), graph)
    (name,) = (n.output.name for n in graph.nodes if n.op.name == "conv2d")
    weight = stored.constants[name, 1]
    assert weight.params is not None
    scale = np.array(weight.params.scale, np.float32).reshape(-1, 1, 1, 1)
    floats = Constant((weight.array * scale).astype(np.float16), None)
    row = compare("coreml", graph, replace(stored, constants={**stored.constants, (name, 1): floats}))
    assert (row.weights.equal, row.weights.count) == (0, 360)
    assert [d.file.split(",")[0] for d in row.differences] == ["float16 [5"]


def test_joined_groups_come_apart_again() -> None:
    narrow = np.arange(1, 8 * 2 * 1 * 1 + 1, dtype=np.int8).reshape(8, 2, 1, 1)
    joined = np.zeros((8, 4, 1, 1), np.int8)
    for output in range(8):
        start = output // 2 % 2 * 2
        joined[output, start : start + 2] = narrow[output]
    own = own_groups(joined, narrow.shape, 4)
    assert own is not None
    assert np.array_equal(own, narrow)
    assert own_groups(joined, (8, 3, 1, 1), 4) is None


def test_parameters_say_an_axis_only_where_there_are_several_scales() -> None:
    graph = integers("conv2d of one output")
    weight = next(n for n in graph.nodes if n.op.name == "conv2d").inputs[1]
    assert weight.quant is not None
    assert weight.quant.axis == 0
    assert Params.of(weight.quant).axis is None


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("keep", [0.0, 0.1, 0.9])
def test_a_truncated_file_is_refused(keep: float, kind: str, tmp_path: Path) -> None:
    graph = integers("conv2d")
    path = saved(graph, kind, tmp_path)
    for file in [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]:
        whole = file.read_bytes()
        file.write_bytes(whole[: int(keep * len(whole))])
        with pytest.raises(DataError, match=path.name):
            read_back(path, graph)
        file.write_bytes(whole)


@pytest.mark.parametrize("kind", ["tflite", "onnx", "coreml, iOS 17"])
@pytest.mark.parametrize("name", ["conv2d", "constants"])
def test_whatever_byte_is_wrong_ends_in_a_difference_or_one_message(name: str, kind: str, tmp_path: Path) -> None:
    graph = integers(name)
    path = saved(graph, kind, tmp_path)
    file = path if path.is_file() else path / "Data" / "com.apple.CoreML" / "model.mlmodel"
    whole, rng = file.read_bytes(), np.random.default_rng(0)
    ends = Counter()
    for at, byte in zip(rng.integers(len(whole), size=40), rng.integers(256, size=40), strict=True):
        file.write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])
        try:
            ends["agrees" if agree(graph, {kind: path})[0].agrees else "differs"] += 1
        except ExportError:
            ends["refused"] += 1
    assert ends["refused"] > 0
    assert sum(ends.values()) == 40


@pytest.mark.parametrize("kind", FORMATS)
def test_a_missing_file_is_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file|no folder|cannot read"):
        read_back(tmp_path / f"net{FORMATS[kind].suffix}", integers("conv2d"))


def test_what_is_no_format_of_ours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"net\.pt"):
        read_back(tmp_path / "net.pt", integers("conv2d"))
