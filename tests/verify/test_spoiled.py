"""A gate, a bundle that passes it, and one that was spoiled on purpose: exit code, and a JUnit failure that says why.

The file is spoiled between lower and verify; the pipeline that judges it is the real one.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import flatbuffers
import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from small_detector import SmallDetector
from torch import Tensor, nn

from exporter.errors import ExportError
from exporter.pipeline import Pipeline
from exporter.recipe import Gates, make_recipe
from exporter.verify.gates import raise_on_failure


class Net(nn.Module):
    def __init__(self, depth: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.body = nn.Sequential(*(nn.Conv2d(16, 16, 3, 1, 1) for _ in range(depth)))

    def forward(self, image: Tensor) -> Tensor:
        return self.body(self.stem(image).relu())


class Reordered(Net):
    """Elements in PyTorch's order behind a convolution, whose output TFLite stores otherwise."""

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image).flatten(1)


class Quotient(Net):
    """A division stays float in an int8 file."""

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image).relu()
        return self.body(x / (x + 1))


class Exponential(Net):
    """An op that TFLite learned later than convolutions."""

    def forward(self, image: Tensor) -> Tensor:
        return self.body(self.stem(image).clamp(-4, 2).exp())


class Spoiled(Pipeline):
    """Its files are spoiled as soon as they are written."""

    def __init__(self, *arguments: Any, spoil: Callable[[Path], None]) -> None:
        super().__init__(*arguments)
        self._spoil = spoil

    def lower(self) -> None:
        super().lower()
        for path in self.files.values():
            self._spoil(path)


def other_weights(path: Path) -> None:
    """The sign of every weight of the last convolution is turned."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    (graph,) = model.subgraphs
    kinds = [code.builtinCode for code in model.operatorCodes]
    last = [op for op in graph.operators if kinds[op.opcodeIndex] == schema.BuiltinOperator.CONV_2D][-1]
    tensor = graph.tensors[last.inputs[1]]
    fed = {op.outputs[0]: op.inputs[0] for op in graph.operators}
    tensor = graph.tensors[fed.get(last.inputs[1], last.inputs[1])]  # float16 weights go through DEQUANTIZE
    dtype = {schema.TensorType.FLOAT32: "<f4", schema.TensorType.FLOAT16: "<f2", schema.TensorType.INT8: "i1"}
    weights = np.asarray(model.buffers[tensor.buffer].data).view(dtype[tensor.type])
    model.buffers[tensor.buffer].data = (-weights).view(np.uint8)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))


def larger(path: Path) -> None:
    with path.open("ab") as file:
        file.write(bytes(100_000))


def as_it_is(path: Path) -> None:
    """The model itself is at fault."""


@dataclass(frozen=True)
class Case:
    """Gates that a sound file passes; `spoil`, or the module itself, makes one fail, in a way that `said` describes."""

    gates: dict[str, Any]
    code: int
    name: str
    said: str
    precision: str = "int8"
    spoil: Callable[[Path], None] = other_weights
    module: type[nn.Module] = Net
    sound: type[nn.Module] | None = None
    recipe: dict[str, Any] | None = None


NMS = {"postprocess": "nms", "nms": {"score_threshold": 0.3}}
CASES = {
    "float_snr": Case({"float_snr": 90}, 5, "float SNR", r"-\d\.\d dB, must be >= 90 dB", "float32"),
    "float16_snr": Case({"float16_snr": 40}, 5, "float SNR", r"-\d\.\d dB, must be >= 40 dB", "float16"),
    "int8_snr": Case({"int8_snr": 20}, 5, "int8 SNR", r"-\d\.\d dB, must be >= 20 dB"),
    "integer_equal": Case({"integer_equal": 0.999}, 5, "integer codes equal", r"\d\.\d{4}%, must be >= 99\.9000%"),
    "integer_lsb": Case({"integer_lsb": 1}, 5, "integer difference", r"\d\d+ LSB, must be <= 1 LSB"),
    "agreement": Case({"agreement": 1.0}, 5, "integers read back", r"of [\d,]+, 1 differences, must be >= 100\.00%"),
    "integer_share": Case(
        {"integer_share": 1.0}, 5, "integer ops", r"must be >= 100\.00%", spoil=as_it_is, module=Quotient, sound=Net
    ),
    "same_detections": Case(
        {"same_detections": 0.99}, 5, "float32 detections of PyTorch", "must be >= 99", "float32", recipe=NMS,
        module=SmallDetector,
    ),
    "similar_detections": Case(
        {"similar_detections": 0.6}, 5, "int8 detections of PyTorch", "must be >= 60", recipe=NMS, module=SmallDetector
    ),
    "max_size": Case({"max_size": 0.05}, 6, "size", r"0\.1\d MB, must be <= 0\.05 MB", spoil=larger),
    "max_transposes": Case(
        {"max_transposes": 0}, 6, "transposes", "1, must be <= 0", spoil=as_it_is, module=Reordered, sound=Net
    ),
    "minimum_runtime": Case(
        {"minimum_runtime": {"tflite": "1.14"}}, 6, "minimum runtime", r"2\.12\.0, must be <= 1\.14",
        spoil=as_it_is, module=Exponential, sound=Net,
    ),
}  # fmt: skip


def run(case: Case, module: type[nn.Module], spoil: Callable[[Path], None], folder: Path) -> tuple[int, Any]:
    """Export with the case's gates alone -> exit code, and the bundle's JUnit XML."""
    off = dict.fromkeys(name for name in Gates.model_fields if name != "minimum_runtime")
    size = (48, 48)
    content = {"model": "net", "precision": case.precision, "preprocess": {"size": size}, "calibration": {"limit": 8}}
    recipe = make_recipe({**content, **(case.recipe or {}), "gates": {**off, **case.gates}}, "a test")
    torch.manual_seed(0)
    pipeline = Spoiled(recipe, spoil=spoil)
    pipeline.module, pipeline.example = module().eval(), (torch.zeros(1, 3, *size),)
    pipeline.run(folder)
    code = 0
    try:
        raise_on_failure(pipeline.verification.gates)
    except ExportError as error:
        code = error.exit_code
    return code, ElementTree.parse(folder / "junit.xml").getroot()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_gate_holds_for_a_sound_file_and_fails_for_a_spoiled_one(case, tmp_path):
    code, junit = run(case, case.sound or case.module, as_it_is, tmp_path / "sound")
    assert (code, junit.get("tests"), junit.get("failures")) == (0, "1", "0"), ElementTree.tostring(junit)
    code, junit = run(case, case.module, case.spoil, tmp_path / "spoiled")
    assert (code, junit.get("tests"), junit.get("failures")) == (case.code, "1", "1"), ElementTree.tostring(junit)
    (entry,) = junit.iter("testcase")
    assert entry.get("name") == case.name
    assert re.search(case.said, entry.find("failure").get("message"))


def test_a_slower_file_fails_the_latency_gate(tmp_path):
    slow = tmp_path / "slow.tflite"
    deep = Case({}, 0, "", "", module=lambda: Net(24))
    run(deep, deep.module, lambda path: shutil.copy(path, slow), tmp_path / "deep")
    case = Case({"latency_ratio": 6.0}, 6, "int8 / float time", r"must be <= 6", spoil=lambda p: shutil.copy(slow, p))
    code, junit = run(case, Net, as_it_is, tmp_path / "sound")
    assert (code, junit.get("failures")) == (0, "0"), ElementTree.tostring(junit)
    code, junit = run(case, Net, case.spoil, tmp_path / "spoiled")
    (failure,) = junit.iter("failure")
    assert (code, junit.get("failures")) == (6, "1")
    assert "must be <= 6 (latency)" in failure.get("message")


@pytest.mark.parametrize(("onnx", "coreml", "failed"), [("1.17", "17", 0), ("1.16.3", "16", 2)])
def test_each_format_names_its_own_runtime(onnx, coreml, failed, tmp_path):
    limits = {"minimum_runtime": {"onnx": onnx, "coreml": coreml}}
    case = Case(limits, 6, "minimum runtime", "", recipe={"targets": ["onnx", "coreml"]})
    code, junit = run(case, Net, as_it_is, tmp_path / "both")
    names = {entry.get("name") for entry in junit.iter("testcase")}
    assert names == {"onnx: minimum runtime", "coreml: minimum runtime"}
    assert (code, junit.get("failures")) == (6 if failed else 0, str(failed))
