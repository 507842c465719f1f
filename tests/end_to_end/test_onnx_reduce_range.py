"""`--onnx-reduce-range` on one model of each family, at its own size, on photographs that calibration has not seen.

Weights are seeded random, BatchNorm refitted on the pictures. Calibrated on 8 pictures, to stay
quick. The figures are about arithmetic. One export serves all tests of a model.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
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
from exporter.verify.parity import SnrMeter
from exporter.verify.runtimes.onnxruntime import OnnxRuntime

pytestmark = pytest.mark.slow

MODELS = ["efficientdet_d0", "fasternet_t0", "litehrnet_18_coco", "cspresnext50"]
CALIBRATED, PHOTOS = 8, 16
"""The smallest output has 4 x 4 cells: on four photographs its figure moves by half a dB with the rounding of ties."""
APART = 0.5
"""dB between what the optimiser leaves of any output and what it is without."""


@dataclass
class Exported:
    """The float graph, the samples that calibrated, those that did not, and what PyTorch gives for these."""

    name: str
    graph: Graph
    calibration: list[tuple[Tensor, ...]]
    photos: list[tuple[Tensor, ...]]
    expected: list[list[Tensor]]
    folder: Path

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
    pipeline = Pipeline(load_recipe(request.param, weights="random", calibration={"limit": CALIBRATED}))
    for stage in ("build", "capture", "simplify"):
        getattr(pipeline, stage)()
    inputs, everything = pipeline.inputs, load_samples(default_samples_dir(), pipeline.recipe.preprocess)
    unseen = [i for i, name in enumerate(everything.names) if name not in inputs.calibration.names]
    photos = list(everything.select(unseen[:PHOTOS]).feeds())
    assert len(photos) == PHOTOS
    expected = [reference_outputs(inputs.module, photo)[0] for photo in photos]
    folder = tmp_path_factory.mktemp(request.param)
    return Exported(request.param, pipeline.graph, list(inputs.calibration.feeds()), photos, expected, folder)


def test_the_optimiser_is_sound_with_reduced_weights(exported: Exported) -> None:
    """On any host, VNNI or not: as near to PyTorch as without the optimiser."""
    graph = exported.quantised(reduce_range=True)
    path = exported.write(graph, "int8-reduced", "onnx")
    fast = OnnxRuntime(path)
    feeds = ([x.numpy() for x in photo] for photo in exported.photos)
    shipped = exported.snr(graph, ([torch.from_numpy(y) for y in fast.run(feed).values()] for feed in feeds))
    sound = exported.snr(graph, exported.run(path, graph))
    assert {name: (shipped[name], sound[name]) for name in sound if abs(shipped[name] - sound[name]) > APART} == {}
