"""ONNX of one model of each family, at its own size, on 8 photographs that calibration has not seen.

Weights are the offline default: seeded random, BatchNorm refitted on the pictures. Calibrated on 8 pictures, to stay
quick. The figures are about arithmetic. One export serves all tests of a model.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest
import torch
from torch import Tensor

from exporter.ir.graph import Graph
from exporter.lower import target
from exporter.lower.facts import Facts
from exporter.pipeline import Pipeline
from exporter.quantize import quantize
from exporter.quantize.calibrate import calibrate
from exporter.quantize.data import default_samples_dir, load_samples
from exporter.recipe import load_recipe
from exporter.verify.comparison import reference_outputs
from exporter.verify.files import open_file
from exporter.verify.onnx import OpenONNX
from exporter.verify.parity import CodeMeter, SnrMeter
from exporter.verify.runtimes.onnxruntime import OnnxRuntime
from exporter.verify.verify import Integers

pytestmark = pytest.mark.slow

MODELS = ["efficientdet_d0", "fasternet_t0", "litehrnet_18_coco", "cspresnext50"]
CALIBRATED, PHOTOS = 8, 8
FLOAT_SNR = 110.0
"""dB, least of any output of the float32 file against PyTorch."""
EQUAL = 0.999
"""Share of codes that are the integer interpreter's, of each kind of op on the interpreter's operands."""
BESIDE_TFLITE = 0.5
"""dB that the int8 file may be farther from PyTorch than TFLite's, on any output."""


@dataclass
class Exported:
    """The float graph, the samples that calibrated, those that did not, and what PyTorch gives for these."""

    name: str
    graph: Graph
    calibration: list[tuple[Tensor, ...]]
    photos: list[tuple[Tensor, ...]]
    expected: list[list[Tensor]]
    folder: Path

    @cached_property
    def int8(self) -> Graph:
        """With 8-bit weights."""
        return self.quantised(reduce_range=False)

    def quantised(self, *, reduce_range: bool) -> Graph:
        """The int8 graph."""
        graph = self.graph.clone()
        quantize(graph, calibrate(self.graph, self.calibration, "mse"), reduce_range=reduce_range)
        return graph

    def write(self, graph: Graph, precision: str, to: str) -> Path:
        """The graph as a file of that format."""
        path = self.folder / f"{precision}{target(to).suffix}"
        target(to).write(graph, path, Facts(self.name, precision))
        return path

    def snr(self, graph: Graph, results: Iterable[list[Tensor]]) -> dict[str, float]:
        """dB of every output against PyTorch, over all photos."""
        meters = [SnrMeter(name) for name in graph.output_names]
        for given, expected in zip(results, self.expected, strict=True):
            for meter, result, reference in zip(meters, given, expected, strict=True):
                meter.add(reference, result)
        rows = [meter.result() for meter in meters]
        return {row.output: row.pooled for row in rows if row.pooled is not None}

    def run(self, path: Path, graph: Graph) -> list[list[Tensor]]:
        """What the file gives for every photo, on kernels that are right on every host."""
        opened = open_file(path, graph)
        return [opened.fetch(opened.runtime.run(opened.feed(photo))) for photo in self.photos]


@pytest.fixture(scope="module", params=MODELS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    pipeline = Pipeline(load_recipe(request.param, calibration={"limit": CALIBRATED}))
    for stage in ("build", "capture", "simplify"):
        getattr(pipeline, stage)()
    inputs, everything = pipeline.inputs, load_samples(default_samples_dir(), pipeline.recipe.preprocess)
    unseen = [i for i, name in enumerate(everything.names) if name not in inputs.calibration.names]
    photos = list(everything.select(unseen[:PHOTOS]).feeds())
    assert len(photos) == PHOTOS
    expected = [reference_outputs(inputs.module, photo)[0] for photo in photos]
    folder = tmp_path_factory.mktemp(request.param)
    return Exported(request.param, pipeline.graph, list(inputs.calibration.feeds()), photos, expected, folder)


def test_the_float32_file_equals_pytorch_on_every_output(exported: Exported) -> None:
    path = exported.write(exported.graph, "float32", "onnx")
    found = exported.snr(exported.graph, exported.run(path, exported.graph))
    assert {name: snr for name, snr in found.items() if snr < FLOAT_SNR} == {}


def test_every_kind_of_op_gives_the_interpreters_codes(exported: Exported) -> None:
    path = exported.write(exported.int8, "int8", "onnx")
    opened, meters = OpenONNX(path, exported.int8), {}
    for photo in exported.photos[:2]:
        for name, ours, theirs in opened.integer_rows(photo, [], Integers(exported.int8).run(photo)):
            meters.setdefault(name, CodeMeter(name)).add(ours, theirs)
    rows = [meter.result() for meter in meters.values()]
    assert rows
    assert {row.output: row.equal for row in rows if row.equal < EQUAL} == {}
    assert max(row.max_lsb for row in rows) <= 1


def test_a_free_run_is_as_near_to_pytorch_as_tflites(exported: Exported) -> None:
    graph = exported.int8
    ours, theirs = (
        exported.snr(graph, exported.run(exported.write(graph, "int8", to), graph)) for to in ("onnx", "tflite")
    )
    assert {name: (ours[name], theirs[name]) for name in ours if ours[name] < theirs[name] - BESIDE_TFLITE} == {}


def test_the_optimiser_is_sound_with_reduced_weights(exported: Exported) -> None:
    """On any host, VNNI or not: as near to PyTorch as without the optimiser."""
    graph = exported.quantised(reduce_range=True)
    path = exported.write(graph, "int8-reduced", "onnx")
    fast = OnnxRuntime(path)
    feeds = ([x.numpy() for x in photo] for photo in exported.photos)
    shipped = exported.snr(graph, ([torch.from_numpy(y) for y in fast.run(feed).values()] for feed in feeds))
    sound = exported.snr(graph, exported.run(path, graph))
    assert {
        name: (shipped[name], sound[name]) for name in sound if abs(shipped[name] - sound[name]) > BESIDE_TFLITE
    } == {}
