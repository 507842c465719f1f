"""EfficientDet-D0 at its own size on real photographs, as the issue of this product's first end asks for it.

Weights are seeded random, BatchNorm refitted on the pictures. The figures are about arithmetic.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.pipeline import Pipeline
from exporter.quantize.data import default_samples_dir, load_samples
from exporter.recipe import Gates, load_recipe
from exporter.verify.comparison import Artifact
from exporter.verify.results import Verification
from exporter.verify.runtimes.litert_file import read_file
from exporter.verify.target import TargetFiles
from exporter.verify.verify import verify

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    pipeline = Pipeline(load_recipe("efficientdet_d0", weights="random", precision="int8", io="int8"))
    pipeline.folder = tmp_path_factory.mktemp("d0")
    for stage in ("build", "capture", "simplify", "quantize", "lower"):
        getattr(pipeline, stage)()
    return pipeline


@pytest.fixture(scope="module")
def float32(exported: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Verification]:
    path = tmp_path_factory.mktemp("float32") / "efficientdet_d0.tflite"
    exported.targets["tflite"].write(exported.graph, path, exported._facts("float32"))
    photos = load_samples(default_samples_dir(), exported.recipe.preprocess, 16)
    artifact = Artifact(path, exported.graph, "float32")
    files = TargetFiles("tflite", (artifact,))
    return path, verify(exported.inputs.module, [files], photos.feeds(), Gates())


@pytest.fixture(scope="module")
def int8(exported: Pipeline) -> Verification:
    photos = load_samples(default_samples_dir(), exported.recipe.preprocess, 8)
    files = TargetFiles("tflite", (Artifact(exported.files["tflite"], exported.lowered, "int8"),))
    return verify(exported.inputs.module, [files], photos.feeds(), Gates())


def test_float32_file_equals_pytorch_to_110_db_on_every_output_of_16_photos(
    float32: tuple[Path, Verification],
) -> None:
    _, measured = float32
    assert measured.samples == 16
    assert len(measured.targets[0].float_parity) == 10
    assert {
        row.output: row.pooled
        for row in measured.targets[0].float_parity
        if row.pooled is not None and row.pooled < 110
    } == {}


def test_int8_file_equals_the_integer_interpreter_on_8_photos(int8: Verification) -> None:
    assert int8.samples == 8
    assert {row.output: row.equal for row in int8.targets[0].integer_parity if row.equal < 0.999} == {}
    assert max(row.max_lsb for row in int8.targets[0].integer_parity) <= 1


def test_int8_file_is_int8_from_input_to_output(exported: Pipeline) -> None:
    file = read_file(exported.files["tflite"])
    assert [t.name for t in file.float_tensors] == []
    assert {file.tensors[i].dtype for i in (*file.inputs, *file.outputs)} == {"int8"}


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_the_delegate_runs_every_op(precision: str, float32: tuple[Path, Verification], int8: Verification) -> None:
    (facts,) = (int8 if precision == "int8" else float32[1]).targets[0].files
    if facts.outside_share is None:
        pytest.skip(facts.profile_note)
    assert [row.op for row in facts.outside_delegate] == []


def test_no_file_holds_a_transpose(float32: tuple[Path, Verification], int8: Verification) -> None:
    assert [facts.transposes for facts in (*float32[1].targets[0].files, *int8.targets[0].files)] == [0, 0]
