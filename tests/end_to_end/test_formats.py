"""The promise of the product, on whole networks at their own size and real photographs: quantised once, and TFLite,
ONNX and Core ML hold the same integers and give what those give.

Weights are the offline default: seeded random, BatchNorm refitted on the pictures. The figures are about arithmetic.
Core ML's are the reference executor's, which is not Core ML.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from parity_coreml import assert_exact

from exporter.lower.coreml import CoreML
from exporter.pipeline import Pipeline
from exporter.quantize.data import Samples, default_samples_dir, load_samples
from exporter.recipe import Gates, load_recipe
from exporter.verify.comparison import Artifact, Comparison, reference_outputs
from exporter.verify.results import Measurements, Verification
from exporter.verify.verify import Integers, verify

pytestmark = pytest.mark.slow

MODELS = ("efficientdet_d0", "fasternet_t0", "litehrnet_18_coco", "cspresnext50")
PHOTOS = 8
CALIBRATED = 8


@dataclass(frozen=True)
class Run:
    """One calibration, one graph, every format; measured on the same photographs."""

    pipeline: Pipeline
    photos: Samples
    folder: Path
    found: Verification

    def measured(self, target: str) -> Measurements:
        """Of the files of one target."""
        (one,) = (each for each in self.found.targets if each.target == target)
        return one

    def comparison(self, precision: str, arithmetic: str) -> Comparison:
        """Another Core ML file of the same graph, not yet compared with anything."""
        pipeline = self.pipeline
        graph = pipeline.lowered if precision == "int8" else pipeline.graph
        path = self.folder / f"{precision}-{arithmetic}.mlpackage"
        CoreML(arithmetic=arithmetic).write(graph, path, pipeline._facts(precision))
        return Comparison(Artifact(path, graph, precision, shipped=False))


@pytest.fixture(scope="module", params=MODELS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    pipeline = Pipeline(
        load_recipe(request.param, weights="random", precision="int8", targets="all", calibration={"limit": CALIBRATED})
    )
    pipeline.folder = tmp_path_factory.mktemp(request.param)
    scratch = tmp_path_factory.mktemp("twins")
    for stage in ("build", "capture", "simplify", "quantize", "lower"):
        getattr(pipeline, stage)()
    photos = load_samples(default_samples_dir(), pipeline.recipe.preprocess, PHOTOS)
    files = [pipeline._written(target, scratch, twin=True) for target in pipeline.targets]
    return Run(pipeline, photos, scratch, verify(pipeline.inputs.module, files, photos.feeds(), Gates()))


def test_every_parameter_weight_and_bias_is_the_same_in_every_file(run: Run) -> None:
    assert [row.file for row in run.found.agreement] == ["tflite", "onnx", "coreml"]
    assert {row.file: row.differences for row in run.found.agreement if not row.agrees} == {}
    graph = run.pipeline.lowered
    operands = [
        (node.op.data_inputs == 1 and place == 2, value.numel)
        for node in graph.nodes
        for place, value in enumerate(node.inputs)
        if value.const is not None and value.quant is not None
    ]
    activations = sum(v.const is None and v.quant is not None for v in graph.values())
    for row in run.found.agreement:
        assert row.weights.equal == row.weights.count == sum(n for bias, n in operands if not bias)
        assert row.biases.equal == row.biases.count == sum(n for bias, n in operands if bias)
        assert row.parameters.equal == row.parameters.count
        assert row.parameters.count + len(row.absent) >= activations


@pytest.mark.parametrize("target", ["tflite", "onnx", "coreml"])
def test_the_float32_file_equals_pytorch_on_every_output(run: Run, target: str) -> None:
    assert run.found.samples == PHOTOS
    rows = run.measured(target).float_parity
    assert [row.output for row in rows] == run.pipeline.graph.output_names
    least = 100 if target == "tflite" else 110
    assert {row.output: row.pooled for row in rows if row.pooled is not None and row.pooled < least} == {}


def test_tflite_gives_the_integers_of_the_interpreter(run: Run) -> None:
    assert {(row.equal, row.max_lsb) for row in run.measured("tflite").integer_parity} == {(1.0, 0)}


def test_every_op_of_the_onnx_file_gives_the_integers_of_the_interpreter(run: Run) -> None:
    rows = run.measured("onnx").integer_parity
    assert {row.output: row.equal for row in rows if row.equal < 0.999} == {}
    assert max(row.max_lsb for row in rows) <= 1


def test_the_onnx_file_is_as_near_to_pytorch_as_the_tflite_file(run: Run) -> None:
    ours, theirs = ({row.output: row.pooled for row in run.measured(t).int8_snr} for t in ("tflite", "onnx"))
    assert ours.keys() == theirs.keys() != set()
    assert {name: (snr, theirs[name]) for name, snr in ours.items() if abs(snr - theirs[name]) > 0.5} == {}


def test_no_op_of_the_core_ml_file_is_further_than_one_code_from_the_interpreter(run: Run) -> None:
    rows = run.measured("coreml").integer_parity
    assert {row.arithmetic for row in rows} == {"float16"}
    assert max(row.max_lsb for row in rows) <= 1


def test_in_float32_every_quantize_of_the_core_ml_program_is_exact(run: Run) -> None:
    """The interpreter's code, or, where XNNPACK's fixed-point factors round otherwise, the nearest to the exact result.

    0 LSB from what the graph means, at most 1 LSB from the interpreter.
    """
    graph, sample = run.pipeline.lowered, next(run.photos.feeds())
    twin, integers = run.comparison("int8", "float32"), Integers(graph).run(sample)
    assert twin.file.arithmetic == "float32"
    nodes = [node for node in graph.nodes if node.outputs[0].quant is not None]
    rows = list(twin.file.integer_rows(sample, [], integers))
    assert len(rows) == len(nodes)
    for node, (_, ours, theirs) in zip(nodes, rows, strict=True):
        assert_exact(node, integers, theirs)
        assert int((ours.int() - theirs.int()).abs().max()) <= 1


def test_core_ml_in_float16_equals_pytorch_to_50_db_or_names_the_op(run: Run) -> None:
    half = run.comparison("float16", "float16")
    for sample in run.photos.feeds():
        reference, _ = reference_outputs(run.pipeline.inputs.module, sample)
        half.add(sample, half.run(sample), reference, {})
    rows = half.against_pytorch()
    assert [row.output for row in rows] == run.pipeline.graph.output_names
    if any(row.pooled is not None and row.pooled < 50 for row in rows):
        told = [text for photo in run.photos.feeds() for text in half.file.warnings(photo)]
        named = [text for text in told if "dB in float16. Most is lost in" in text]
        assert named
