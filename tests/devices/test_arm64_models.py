"""FasterNet-T0 and EfficientDet-D0 in int8 on emulated cores: the codes of this machine on photographs, and a count for
every operator.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from parity import simplified, write

from exporter.build import build_model
from exporter.quantize import quantize
from exporter.quantize.calibrate import calibrate
from exporter.quantize.data import default_samples_dir, load_samples
from exporter.recipe import load_recipe
from exporter.verify.devices import Job, device, run_job
from exporter.verify.devices.arm64 import counts
from exporter.verify.runtimes.litert import LiteRT
from exporter.verify.runtimes.litert_file import read_file
from exporter.verify.tflite import Storage

PHOTOS = 4


def made(model: str, folder: Path) -> Job:
    """Seeded random weights, calibrated on the photographs that the file is fed."""
    recipe = load_recipe(model, weights="random")
    photos = load_samples(default_samples_dir(), recipe.preprocess, PHOTOS).feeds()
    samples = [list(photo) for photo in photos]
    graph = simplified(build_model(model, recipe.preprocess.size), *samples[0])
    quantize(graph, calibrate(graph, samples, "minmax"), io="int8")
    file = folder / f"{model}.tflite"
    write(graph, file, "int8")
    storage, (info,) = Storage(graph), LiteRT(file).inputs
    return Job(file, [{info.name: storage.feed(sample)[0]} for sample in samples])


@pytest.fixture(scope="module")
def fasternet(tmp_path_factory: pytest.TempPathFactory) -> Job:
    return made("fasternet_t0", tmp_path_factory.mktemp("fasternet"))


@pytest.fixture(scope="module")
def efficientdet(tmp_path_factory: pytest.TempPathFactory) -> Job:
    return made("efficientdet_d0", tmp_path_factory.mktemp("efficientdet"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "core"),
    [("fasternet", "cortex-a53"), ("fasternet", "cortex-a76"), ("fasternet", "i8mm"), ("efficientdet", "cortex-a53"),
     ("efficientdet", "cortex-a76")],
)  # fmt: skip
def test_codes_equal_those_of_this_machine_on_photographs(arm64, request, model, core):
    job = request.getfixturevalue(model)
    ran, here = run_job(device(f"arm64:{core}"), job), run_job(device("local"), job)
    assert len(ran.outputs) == PHOTOS
    for there, expected in zip(ran.outputs, here.outputs, strict=True):
        assert there.keys() == expected.keys()
        for name, codes in expected.items():
            assert codes.dtype == np.int8
            assert len(np.unique(codes)) > 64
            assert there[name].tobytes() == codes.tobytes()


@pytest.mark.slow
def test_every_operator_has_a_count_those_outside_the_delegate_too(arm64, fasternet):
    counted = counts(device("arm64"), fasternet)
    named = [row for row in counted.ops if row.name]
    file = read_file(fasternet.model)
    assert [row.op for row in named] == [op.name for op in file.ops]
    assert [row.name for row in named] == [file.tensors[op.outputs[0]].name for op in file.ops]
    for column in ("instructions", "loaded_bytes", "stored_bytes"):
        whole = getattr(counted, column)
        assert sum(getattr(row, column) for row in counted.ops) == pytest.approx(whole, rel=2e-3)
    gelus = [row for row in named if row.op == "GELU"]
    elements = {tensor.name: float(np.prod(tensor.shape)) for tensor in file.tensors}
    per_element = [row.instructions / elements[row.name] for row in gelus if elements[row.name] > 10_000]
    assert len(per_element) > 10
    assert max(per_element) < 1.05 * min(per_element)  # a table lookup for each: none has another operator's count
