"""The golden files of a target: one input with the outputs that its runtime gave when the bundle was made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError, computed_field

from exporter.errors import AccuracyError, DataError, RuntimeUnavailable
from exporter.verify.detections import DetectionMeter, Tolerance
from exporter.verify.devices.facts import Latency
from exporter.verify.files import open_runtime
from exporter.verify.latency import measure_latency


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True)


class Array(_Row):
    """An entry of golden.json: a raw little-endian array."""

    name: str
    file: str
    dtype: str
    shape: tuple[int, ...]
    tolerance: float = 0.0


class Detections(_Row):
    """Which outputs are boxes, class ids, scores and number, and when two results are the same."""

    outputs: tuple[str, str, str, str]
    least_iou: float
    most_score: float
    least_share: float


class Golden(_Row):
    runtime: str
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    detections: Detections | None = None


class GoldenOutput(_Row):
    """One output on the golden input: largest absolute difference from the stored values, and what it may be."""

    output: str
    difference: float
    tolerance: float

    @computed_field  # type: ignore[prop-decorator]
    @property
    def passed(self) -> bool:
        """Whether the difference is within the tolerance (NaN is not)."""
        return self.difference <= self.tolerance


class TargetCheck(_Row):
    """One target's file of the bundle, run here on the golden input."""

    target: str
    file: str
    golden: tuple[GoldenOutput, ...] = ()
    golden_note: str = ""
    """Why no golden output was compared, where none was."""
    latency: Latency | None = None
    runtime: str = ""
    runtime_at_export: str = ""

    def raise_on_failure(self) -> None:
        """AccuracyError for golden outputs that differ."""
        if wrong := [row for row in self.golden if not row.passed]:
            other = self.runtime != self.runtime_at_export
            raise AccuracyError(
                f"{len(wrong)} of {len(self.golden)} golden outputs of {self.file} differ",
                where=[f"{row.output}  by {row.difference:.3g}, may be {row.tolerance:.3g}" for row in wrong],
                why=f"exported with {self.runtime_at_export}, run with {self.runtime}" if other else "",
                try_=f"pip install {self.runtime_at_export.replace(' ', '==')}" if other else "export again",
            )


def run_golden(path: Path, file: Path) -> dict[str, Any]:
    """The fields of TargetCheck that need the runtime: golden.json and the file run on what it names."""
    golden, inputs, expected = read_golden(path)
    runtime = open_runtime(file, sound=True)
    results = runtime.run(inputs)
    if golden.detections is not None and file.suffix == ".mlpackage":
        from exporter.verify.coreml import detections

        most = next(entry.shape[1] for entry in golden.outputs if entry.name == golden.detections.outputs[0])
        results |= dict(zip(golden.detections.outputs, detections(results, most), strict=True))
    results = {name: array for name, array in results.items() if name in expected}  # labels are no golden output
    if _shapes(results) != _shapes(expected):
        raise DataError(f"{path} is of another model", why=f"{file.name} gives {_shapes(results)}")
    rows = tuple(
        GoldenOutput(
            output=entry.name,
            difference=_difference(results[entry.name], expected[entry.name]),
            tolerance=entry.tolerance,
        )
        for entry in golden.outputs
        if golden.detections is None or entry.name not in golden.detections.outputs
    )
    if golden.detections is not None:
        rows += (_detections(golden.detections, expected, results),)
    return {
        "golden": rows,
        "latency": _latency(file, inputs),
        "runtime": runtime.runtime,
        "runtime_at_export": golden.runtime,
    }


def _latency(file: Path, inputs: Mapping[str, np.ndarray]) -> Latency | None:
    """None where no runtime of the file's format is on this host."""
    try:
        return measure_latency(open_runtime(file), inputs)
    except RuntimeUnavailable:
        return None


def _detections(
    golden: Detections, expected: Mapping[str, np.ndarray], results: Mapping[str, np.ndarray]
) -> GoldenOutput:
    """All four outputs as one: the share of detections that did not come again."""
    meter = DetectionMeter("golden", "golden", Tolerance(golden.least_iou, golden.most_score))
    meter.add(*([torch.from_numpy(arrays[name]) for name in golden.outputs] for arrays in (expected, results)))
    missing = 1 - meter.result().share
    return GoldenOutput(output="detections", difference=missing, tolerance=1 - golden.least_share)


def _shapes(arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in arrays.items()}


def _difference(got: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(got.astype(np.float64) - expected.astype(np.float64)).max(initial=0.0))


def read_golden(path: Path) -> tuple[Golden, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """golden.json, and the arrays of inputs and outputs by name. Raises DataError where any of it is damaged."""
    try:
        golden = Golden.model_validate_json(path.read_text())
        inputs, outputs = (
            {entry.name: _read(path.parent, entry) for entry in entries} for entries in (golden.inputs, golden.outputs)
        )
    except (OSError, ValidationError, ValueError, TypeError) as error:
        raise DataError(f"{path} is damaged", why=str(error).splitlines()[0], try_="export again") from error
    return golden, inputs, outputs


def _read(folder: Path, entry: Array) -> np.ndarray:
    dtype = np.dtype(entry.dtype)
    stored = np.frombuffer((folder / entry.file).read_bytes(), dtype.newbyteorder("<"))
    return stored.astype(dtype).reshape(entry.shape)
