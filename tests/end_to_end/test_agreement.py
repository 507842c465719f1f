"""The promise of the product: quantised once, and every file holds the same integers, 100 % of them.

Weights are the offline default (seeded random, BatchNorm refitted on the pictures): what is compared is the files.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor

from exporter.ir.graph import Graph
from exporter.ir.run import Interpreter
from exporter.lower import target
from exporter.lower.facts import Facts
from exporter.pipeline import Pipeline
from exporter.recipe import load_recipe
from exporter.verify.agreement import agree
from exporter.verify.codes import codes, codes_in, output_params
from exporter.verify.distance import Distances
from exporter.verify.files import open_file

pytestmark = pytest.mark.slow

TARGETS = ("tflite", "onnx", "coreml")
MODELS = ("efficientdet_d0", "fasternet_t0", "litehrnet_18_coco", "cspresnext50")


@pytest.fixture(scope="module", params=MODELS)
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Pipeline, dict[str, Path]]:
    """One calibration, one graph, every format."""
    pipeline = Pipeline(load_recipe(request.param, precision="int8"))
    for stage in ("build", "capture", "simplify", "quantize"):
        getattr(pipeline, stage)()
    preprocess, folder = pipeline.recipe.preprocess, tmp_path_factory.mktemp(request.param)
    facts = Facts(request.param, "int8", mean=preprocess.mean, std=preprocess.std)
    files = {}
    for name in TARGETS:
        chosen = target(name)
        files[name] = folder / f"{request.param}{chosen.suffix}"
        chosen.write(pipeline.lowered, files[name], facts)
    return pipeline, files


def test_every_parameter_weight_and_bias_is_the_same_in_every_file(exported: tuple[Pipeline, dict[str, Path]]) -> None:
    pipeline, files = exported
    graph = pipeline.lowered
    rows = agree(graph, files)
    assert [row.file for row in rows] == list(files)
    assert {row.file: row.differences for row in rows if not row.agrees} == {}
    weights, biases, activations = _counts(graph)
    for row in rows:
        assert row.weights.equal == row.weights.count == weights
        assert row.biases.equal == row.biases.count == biases
        assert row.parameters.equal == row.parameters.count >= activations
        assert row.absent == {}
    assert [row.biases_as for row in rows] == ["int32", "int32", "float16"]


def _counts(graph: Graph) -> tuple[int, int, int]:
    """Elements of weights and constant operands, of biases, and the number of quantised activations."""
    operands = [
        (node.op.data_inputs == 1 and place == 2, value.numel)
        for node in graph.nodes
        for place, value in enumerate(node.inputs)
        if value.const is not None and value.quant is not None
    ]
    activations = sum(v.const is None and v.quant is not None for v in graph.values())
    return sum(n for bias, n in operands if not bias), sum(n for bias, n in operands if bias), activations


def test_tflite_computes_what_the_interpreter_does_and_the_others_are_measured(
    exported: tuple[Pipeline, dict[str, Path]],
) -> None:
    pipeline, files = exported
    graph = pipeline.lowered
    sample = next(pipeline.inputs.calibration.feeds())
    params = output_params(graph)

    def as_codes(outputs: list[Tensor]) -> list[Tensor]:
        return [codes(output, p) for output, p in zip(outputs, params, strict=True) if p is not None]

    distances = Distances([name for name, p in zip(graph.output_names, params, strict=True) if p is not None])
    found = {}
    for name, path in files.items():
        opened = open_file(path, graph)
        found[name] = as_codes(opened.fetch(opened.runtime.run(opened.feed(sample))))
    distances.add({**found, "interpreter": as_codes(Interpreter(graph).run(codes_in(graph, sample)))})
    rows = {(row.one, row.other, row.output): row for row in distances.result()}
    sources = len(files) + 1
    assert len(rows) == sources * (sources - 1) // 2 * len(graph.output_names)
    for output in graph.output_names:
        assert (rows["tflite", "interpreter", output].equal, rows["tflite", "interpreter", output].max_lsb) == (1.0, 0)
        for name in TARGETS[1:]:
            ours, theirs = rows["tflite", name, output], rows[name, "interpreter", output]
            assert (ours.equal, ours.max_lsb, ours.count) == (theirs.equal, theirs.max_lsb, theirs.count)
