"""A .mlpackage beside its graph, on the reference executor (not Core ML)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import Function, image, simplified, snr
from parity_coreml import assert_exact
from small_detector import SIZE, make
from torch import Tensor, nn

from exporter.build.postprocess import with_postprocess
from exporter.bundle import write_golden
from exporter.capture import capture
from exporter.errors import DataError
from exporter.ir.graph import Graph
from exporter.ir.run import Interpreter
from exporter.lower.coreml import CoreML
from exporter.lower.facts import Facts
from exporter.quantize import quantize
from exporter.quantize.calibrate import calibrate
from exporter.simplify import simplify
from exporter.verify.codes import codes_in
from exporter.verify.comparison import Artifact
from exporter.verify.coreml import OpenCoreML, detections, package_sha256
from exporter.verify.detections import SAME, DetectionMeter
from exporter.verify.files import open_file, open_runtime
from exporter.verify.golden import run_golden
from exporter.verify.runtimes.mil_reference import NAME, MilReference
from exporter.verify.verify import Integers

PICTURE: dict[str, Any] = {"mean": (0.5, 0.25, 0.125), "std": (0.25, 0.5, 0.75)}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = torch.nn.functional.gelu(self.stem(x))
        return {"features": self.body(y) + y, "score": torch.sigmoid(y.mean((2, 3)))}


@pytest.fixture(scope="module")
def x() -> Tensor:
    return image(1, 3, 16, 16)


@pytest.fixture(scope="module")
def graphs(x: Tensor) -> tuple[nn.Module, Graph, Graph]:
    """The module, its float graph and the int8 one."""
    torch.manual_seed(0)
    net = Net().eval()
    graph = simplified(net, x)
    integer = graph.clone()
    quantize(integer, calibrate(graph, [(x,)], "minmax"), io="float")
    return net, graph, integer


def write(graph: Graph, folder: Path, precision: str, **options: Any) -> Path:
    path = folder / "net.mlpackage"
    target = CoreML(options.pop("min_os", None), options.pop("arithmetic", None))
    target.write(graph, path, Facts("net", precision, **options))
    return path


@pytest.mark.parametrize("facts", [{}, PICTURE], ids=["array", "picture"])
@pytest.mark.parametrize(("precision", "least"), [("float32", 115.0), ("float16", 50.0)])
def test_the_float_file_is_the_module(
    facts: dict[str, Any],
    precision: str,
    least: float,
    graphs: tuple[nn.Module, Graph, Graph],
    x: Tensor,
    tmp_path: Path,
) -> None:
    """A picture's file is fed the sample behind its normalisation, under the name that the writer gave it."""
    net, graph, _ = graphs
    opened = open_file(write(graph, tmp_path, precision, **facts), graph)
    assert isinstance(opened, OpenCoreML)
    assert opened.runtime.runtime == NAME
    assert opened.shipped is None
    assert [i.name for i in opened.runtime.inputs] == ["x_normalised" if facts else "x"]
    results = opened.fetch(opened.runtime.run(opened.feed([x])))
    with torch.no_grad():
        expected = net(x)
    for name, result in zip(graph.output_names, results, strict=True):
        assert snr(result, expected[name]) >= least


def test_the_picture_itself_is_normalised_as_preprocessing_does(
    graphs: tuple[nn.Module, Graph, Graph], tmp_path: Path
) -> None:
    """Every float32 number of the tensor behind the picture: x / 255, minus the mean, over the deviation."""
    path = write(graphs[1], tmp_path, "float16", **PICTURE)
    pixels = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    mean, std = (np.array(PICTURE[key], np.float32) for key in ("mean", "std"))
    expected = ((pixels.astype(np.float32) / 255 - mean) / std).transpose(2, 0, 1)[None]
    model = MilReference(path)
    assert [(i.shape, i.dtype) for i in model.inputs] == [((16, 16, 3), "uint8")]
    found = model.run_forced({"x": pixels}, {"x_normalised": np.zeros_like(expected)})
    assert np.array_equal(found["x_normalised"], expected)


@pytest.mark.parametrize("min_os", [17, 18])
@pytest.mark.parametrize("arithmetic", ["float32", "float16"])
def test_every_quantize_on_the_interpreters_operands(
    arithmetic: str, min_os: int, graphs: tuple[nn.Module, Graph, Graph], x: Tensor, tmp_path: Path
) -> None:
    """In float32 the codes of the exact result, each; in float16 at most one from the interpreter's."""
    *_, graph = graphs
    opened = open_file(write(graph, tmp_path, "int8", min_os=min_os, arithmetic=arithmetic), graph)
    integers = Integers(graph).run([x])
    rows = list(opened.integer_rows([x], [], integers))
    assert {kind.split()[0] for kind, *_ in rows} == {"quantize", "conv2d", "gelu", "add", "mean", "sigmoid"}
    quantised = [node for node in graph.nodes if node.output.quant is not None]
    apart = 0
    for node, (kind, ours, theirs) in zip(quantised, rows, strict=True):
        assert kind.split()[0] == node.op.name
        assert ours.shape == theirs.shape
        if arithmetic == "float32":
            assert_exact(node, integers, theirs)
        assert int((theirs.int() - ours.int()).abs().max()) <= 1, kind
        apart += int((theirs != ours).sum())
    assert apart or arithmetic == "float32", "float16 rounds somewhere"
    later = Integers(graph)
    later.run([x])
    assert not list(opened.integer_rows([x], [], later.run([x]))), "the first sample alone"


def test_a_changed_scale_is_seen_by_its_op_alone(
    graphs: tuple[nn.Module, Graph, Graph], x: Tensor, tmp_path: Path
) -> None:
    """Teacher forcing: an error in one op does not reach those behind it."""
    *_, graph = graphs
    path = write(graph, tmp_path, "int8", arithmetic="float32")
    other = graph.clone()
    node = next(node for node in other.nodes if node.op.name == "gelu")
    seen = Integers(graph).run([x])
    spoiled = seen | {node.output.name: ~seen[node.output.name]}
    wrong = [kind for kind, ours, theirs in open_file(path, graph).integer_rows([x], [], spoiled)
             if int((ours.int() - theirs.int()).abs().max()) > 1]  # fmt: skip
    readers = {reader.op.name for reader in node.output.uses}
    assert {kind.split()[0] for kind in wrong} == {"gelu", *readers}


def test_another_graphs_file_is_a_data_error(graphs: tuple[nn.Module, Graph, Graph], x: Tensor, tmp_path: Path) -> None:
    _, graph, integer = graphs
    opened = open_file(write(graph, tmp_path, "float32"), integer)
    with pytest.raises(DataError, match="written from another graph"):
        list(opened.integer_rows([x], [], Integers(integer).run([x])))


def test_facts_of_an_int8_file(graphs: tuple[nn.Module, Graph, Graph], tmp_path: Path) -> None:
    """Ops that normalise the picture, and pairs, are its border."""
    *_, graph = graphs
    path = write(graph, tmp_path, "int8", **PICTURE)
    facts = open_file(path, graph).facts("int8", [], {}, shipped=True)
    assert facts.ops["conv"] == 2
    assert facts.integer_ops == 6, "two convolutions, gelu, add, mean, sigmoid"
    assert facts.float_ops == ()
    assert facts.integer_share == 1.0
    assert facts.border_ops == facts.ops["quantize"] + facts.ops["dequantize"] + 3
    assert facts.minimum_runtime == "iOS 17, macOS 14"
    assert facts.size_bytes == sum(f.stat().st_size for f in path.rglob("*") if f.is_file())


def test_a_float_island_is_counted_and_named(x: Tensor, tmp_path: Path) -> None:
    """int8 division is declared as an island: its ops are float, with the reason."""
    graph = simplified(Function(lambda x: (x.relu() / (x * x + 1.5)).relu()), x)
    _, islands = quantize(graph, calibrate(graph, [(x,)], "minmax"), io="float")
    assert islands
    facts = open_file(write(graph, tmp_path, "int8"), graph).facts("int8", [], islands, shipped=True)
    assert [(op.op, op.reason) for op in facts.float_ops] == [("real_div", next(iter(islands.values())))]
    assert 0 < facts.integer_share < 1


@pytest.mark.parametrize(
    ("precision", "system"), [("float16", "iOS 15, macOS 12"), ("weights-int8", "iOS 16, macOS 13")]
)
def test_facts_of_other_files(
    precision: str, system: str, graphs: tuple[nn.Module, Graph, Graph], tmp_path: Path
) -> None:
    _, graph, _ = graphs
    facts = open_file(write(graph, tmp_path, precision), graph).facts(precision, [], {}, shipped=True)
    assert facts.minimum_runtime == system
    assert facts.integer_ops == 0
    assert facts.float_ops == ()


def test_the_digest_is_of_names_and_bytes(graphs: tuple[nn.Module, Graph, Graph], tmp_path: Path) -> None:
    path = write(graphs[1], tmp_path, "float16")
    digest = package_sha256(path)
    assert package_sha256(shutil.copytree(path, tmp_path / "copy.mlpackage")) == digest
    (path / "Manifest.json").rename(path / "manifest.json")
    assert package_sha256(path) != digest


def test_warnings_say_what_ran(graphs: tuple[nn.Module, Graph, Graph], x: Tensor, tmp_path: Path) -> None:
    *_, graph = graphs
    path = write(graph, tmp_path, "int8")
    assert any("reference executor (not Core ML)" in text for text in open_file(path, graph).warnings([x]))
    assert open_runtime(path).runtime == NAME


def test_where_float16_loses_most_is_named(x: Tensor, tmp_path: Path) -> None:
    """x + 1000 keeps x to a half in float16, which shows where 1000 is subtracted again."""
    graph = simplified(Function(lambda x: (x.tanh() + 1000).relu() - 1000), x)
    told = open_file(write(graph, tmp_path, "float16"), graph).warnings([x])
    (said,) = (text for text in told if "Most is lost in" in text)
    assert "Most is lost in sub" in said
    assert "parity.py" in said, "the line that called it"
    fine = simplified(Function(lambda x: x.tanh() * 3), x)
    told = open_file(write(fine, tmp_path, "float16"), fine).warnings([x])
    assert not any("Most is lost in" in text for text in told)


def test_detections_are_those_of_the_lists() -> None:
    """Centre x, centre y, width, height become y0, x0, y1, x1; what the pipeline leaves out is zero."""

    confidence = np.array([[0, 0.75], [0.5, 0]], np.float32)
    coordinates = np.array([[0.5, 0.25, 0.5, 0.25], [0.25, 0.5, 0.5, 1]], np.float32)
    boxes, classes, scores, count = detections({"confidence": confidence, "coordinates": coordinates}, 3)
    assert boxes.tolist() == [[[0.125, 0.25, 0.375, 0.75], [0, 0, 1, 0.5], [0, 0, 0, 0]]]
    assert classes.tolist() == [[1, 0, 0]]
    assert scores.tolist() == [[0.75, 0.5, 0]]
    assert count.tolist() == [2]


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_detectors_golden_files(precision: str, tmp_path: Path) -> None:
    """They hold the picture that an app gives, and detections; the saved file finds them again, and the interpreter."""
    mean, std = (torch.tensor(PICTURE[key]).reshape(1, 3, 1, 1) for key in ("mean", "std"))
    sample = (torch.randint(0, 256, (1, 3, SIZE, SIZE)) / 255 - mean) / std
    module = with_postprocess(make(), "nms", score_threshold=0.1, iou_threshold=0.5, max_detections=20)
    graph = simplify(capture(module, (sample,), output_names=module.output_names))
    if precision == "int8":
        quantize(graph, calibrate(graph, [(sample,)], "minmax"), io="float")
    path = write(graph, tmp_path, precision, arithmetic="float32", **PICTURE)
    opened = open_file(path, graph)
    meter = DetectionMeter("coreml", "interpreter", SAME)
    found = opened.fetch(opened.runtime.run(opened.feed([sample])))
    meter.add(Interpreter(graph).run(codes_in(graph, [sample])), found)
    assert meter.result().expected > 3
    assert meter.result().share == 1
    write_golden(tmp_path / "golden", Artifact(path, graph, precision), [sample])
    golden = json.loads((tmp_path / "golden" / "golden.json").read_text())
    assert [(i["dtype"], i["shape"]) for i in golden["inputs"]] == [("uint8", [SIZE, SIZE, 3])]
    assert [o["name"] for o in golden["outputs"]] == graph.output_names
    run = run_golden(tmp_path / "golden" / "golden.json", path)
    assert [(row.output, row.passed) for row in run["golden"]] == [("detections", True)]
    assert run["latency"] is None


def test_a_classifiers_golden_files(x: Tensor, tmp_path: Path) -> None:
    """Labels and probabilities are the file's own outputs, and no golden ones."""
    torch.manual_seed(0)
    graph = simplified(nn.Sequential(nn.Conv2d(3, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), x)
    path = write(graph, tmp_path, "float32", labels=("cat", "dog", "owl"), **PICTURE)
    results = open_runtime(path).run({"input": np.zeros((16, 16, 3), np.uint8)})
    assert results["classLabel"] in ("cat", "dog", "owl")
    write_golden(tmp_path / "golden", Artifact(path, graph, "float32"), [x])
    run = run_golden(tmp_path / "golden" / "golden.json", path)
    assert [(row.output, row.passed) for row in run["golden"]] == [(graph.output_names[0], True)]
