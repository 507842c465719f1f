"""One model of each family through the whole pipeline at its own size, on real photographs.

Weights are the offline default: seeded random, BatchNorm refitted on the pictures. The figures are about arithmetic.
A row of MODELS is a recipe and the costly ops that its files leave to TFLite's own kernels: those of which nothing
better is known, where the spelling says what was tried and what it costs.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from exporter.pipeline import Pipeline
from exporter.recipe import Gates, load_recipe
from exporter.verify.results import Measurements
from exporter.verify.runtimes.litert_file import TFLiteFile, read_file
from exporter.verify.verify import verify

pytestmark = pytest.mark.slow
CALIBRATED = 8
"""Pictures: enough for figures about arithmetic."""
FLOAT_SNR = 100.0
"""dB, least of any output of the float32 file against PyTorch."""
MOST_OUTSIDE = 0.01
"""Share of the time that all other ops outside the XNNPACK delegate may take together."""

MODELS: dict[str, set[str]] = {
    "cspdarknet53": set(),
    "cspresnet50": set(),
    "cspresnext50": set(),
    "csppeleenet": set(),
    "csppeleenet_efm": set(),
    "csresnet50": set(),
    "csresnext50_panet_spp": set(),
    "fasternet_t0": {"GELU"},
    "fasternet_t2": set(),
    "litehrnet_18_coco": set(),
}


@dataclass(frozen=True)
class Run:
    """What was measured on both files, and the int8 one."""

    costly: set[str]
    samples: int
    measured: Measurements
    int8: TFLiteFile


@pytest.fixture(scope="module", params=MODELS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    pipeline = Pipeline(
        load_recipe(request.param, weights="random", precision="int8", io="int8", calibration={"limit": CALIBRATED})
    )
    pipeline.folder = tmp_path_factory.mktemp(request.param)
    for stage in ("build", "capture", "simplify", "quantize", "lower"):
        getattr(pipeline, stage)()
    files = pipeline._written("tflite", tmp_path_factory.mktemp("twin"), twin=True)
    inputs = pipeline.inputs
    found = verify(inputs.module, [files], inputs.held_out.feeds(), Gates())
    return Run(MODELS[request.param], found.samples, found.targets[0], read_file(pipeline.files["tflite"]))


def test_the_float32_file_equals_pytorch_on_every_output_of_real_photos(run: Run) -> None:
    assert run.samples == 4
    assert run.measured.float_parity
    worst = {row.output: row.pooled for row in run.measured.float_parity if row.pooled is not None}
    assert {output: snr for output, snr in worst.items() if snr < FLOAT_SNR} == {}


def test_the_int8_file_equals_the_integer_interpreter(run: Run) -> None:
    assert run.measured.integer_parity
    assert {row.output: row.equal for row in run.measured.integer_parity if row.equal < 0.999} == {}
    assert max(row.max_lsb for row in run.measured.integer_parity) <= 1


def test_the_int8_file_is_int8_from_input_to_output(run: Run) -> None:
    assert [tensor.name for tensor in run.int8.float_tensors] == []
    assert {run.int8.tensors[i].dtype for i in (*run.int8.inputs, *run.int8.outputs)} == {"int8"}


def test_neither_file_holds_a_transpose(run: Run) -> None:
    assert {facts.precision: facts.transposes for facts in run.measured.files} == {"int8": 0, "float32": 0}


@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_ops_outside_the_delegate_cost_little_or_are_named(run: Run, precision: str) -> None:
    (facts,) = (facts for facts in run.measured.files if facts.precision == precision)
    if facts.outside_share is None:
        pytest.skip(facts.profile_note)
    others = [row for row in facts.outside_delegate if row.op not in run.costly]
    assert sum(row.share or 0.0 for row in others) <= MOST_OUTSIDE, {row.op: row.share for row in others}
