"""The files of a bundle on a labelled set, on this machine and on devices: `edge-export verify --eval SOURCE`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from exporter.bundle import read_manifest
from exporter.errors import DataError
from exporter.inputs import build_module, finished
from exporter.recipe import Recipe
from exporter.verify.codes import reals
from exporter.verify.devices import Device, Job, run_job
from exporter.verify.files import open_runtime
from exporter.verify.metrics.evaluate import Runner, evaluate
from exporter.verify.metrics.labelled import open_labelled
from exporter.verify.metrics.protocol import Model, Tensors
from exporter.verify.on_device import FORMATS, DeviceCheck, Subject
from exporter.verify.photos import as_stored
from exporter.verify.results import Evaluation, Report

Shapes = Mapping[str, tuple[int, ...]]


def evaluate_bundle(
    folder: Path,
    subjects: Sequence[Subject],
    devices: Sequence[Device],
    checks: Sequence[DeviceCheck],
    source: str,
    limit: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """The files of a bundle that is as it was exported, each on this machine and then on every device that gave outputs
    of it, as `checks` tell.

    Drops are against the first file on this machine. `progress` gets the pictures done, and how many there are. Raises
    DataError and UsageError of `open_labelled`, and the errors of devices.
    """
    report = _report(folder)
    labelled = open_labelled(source, _model(folder, report, source), limit)
    ran = {(check.target, check.device): check.runtime for check in checks if check.samples}
    runners = []
    for subject in subjects:
        file = BundleFile(subject, report.output_shapes)
        able = [(device, ran[key]) for device in devices if (key := (subject.target, device.name)) in ran]
        runners += [file.here(), *(file.on(device, runtime) for device, runtime in able)]
    return evaluate(labelled, runners, progress=lambda done: progress(done, len(labelled.names)))


class BundleFile:
    """A .tflite or .onnx file of a bundle: pictures in as it stores them, its outputs as PyTorch has them.

    `outputs` are names and shapes of PyTorch's, in its order.
    """

    def __init__(self, subject: Subject, outputs: Shapes) -> None:
        assert subject.path.suffix in FORMATS
        self._subject, self._outputs = subject, outputs
        (self._input,), found = subject.borders
        self._params = {border.info.name: border.params for border in found}

    def here(self) -> Runner:
        """On this machine, on kernels whose int8 results are right here."""
        runtime = open_runtime(self._subject.path, sound=self._subject.sound)

        def run(samples: Sequence[Tensors]) -> Iterator[Tensors]:
            return (self._read(runtime.run(self._feed(sample))) for sample in samples)

        return self._runner("", f"{runtime.runtime} ({runtime.kernels})", run)

    def on(self, device: Device, runtime: str) -> Runner:
        """On a device: one job for each batch."""

        def run(samples: Sequence[Tensors]) -> Iterator[Tensors]:
            ran = run_job(device, Job(self._subject.path, [self._feed(sample) for sample in samples]))
            return map(self._read, ran.outputs)

        return self._runner(device.name, runtime, run)

    def _runner(self, device: str, runtime: str, run: Callable[[Sequence[Tensors]], Iterator[Tensors]]) -> Runner:
        return Runner(self._subject.precision, runtime, run, self._subject.target, shipped=True, device=device)

    def _feed(self, sample: Tensors) -> dict[str, np.ndarray]:
        (picture,) = sample
        return {self._input.info.name: as_stored(picture, self._input, self._subject.path.name)}

    def _read(self, results: Mapping[str, np.ndarray]) -> list[Tensor]:
        """In PyTorch's order and axis order, as floats. TFLite stores maps [1, h, w, c]."""
        found = []
        for name, shape in self._outputs.items():
            tensor = reals(torch.from_numpy(np.asarray(results[name])), self._params[name])
            last = self._subject.path.suffix == ".tflite" and tensor.ndim == 4
            if last and tuple(tensor.permute(0, 3, 1, 2).shape) == shape:
                tensor = tensor.permute(0, 3, 1, 2)
            if tuple(tensor.shape) != shape:
                given = list(tensor.shape)
                raise DataError(f"{self._subject.path.name} gives {given} as {name}, not {list(shape)}")
            found.append(tensor)
        return found


def _report(folder: Path) -> Report:
    path = folder / "report.json"
    try:
        return Report.model_validate_json(path.read_text())
    except (OSError, ValidationError) as error:
        raise DataError(
            f"cannot evaluate {folder}: report.json, which names its outputs, cannot be read",
            why=str(error).splitlines()[0],
            try_="export again, to the end",
        ) from error


def _model(folder: Path, report: Report, source: str) -> Model:
    """What is known of the bundle's model. A detector is built again, for the meaning of its heads."""
    recipe = _recipe(read_manifest(folder))
    labels = folder / "labels.txt"
    return Model(
        recipe.preprocess,
        tuple(report.input_shapes.values()),
        tuple(report.output_shapes.values()),
        tuple(labels.read_text().splitlines()) if labels.is_file() else (),
        finished(build_module(recipe), recipe) if source.endswith(".json") else None,
    )


def _recipe(manifest: Mapping[str, Any]) -> Recipe:
    try:
        return Recipe.model_validate(manifest.get("recipe"))
    except ValidationError as error:
        raise DataError(
            "the manifest's recipe cannot be read", why=str(error).splitlines()[0], try_="export again"
        ) from error
