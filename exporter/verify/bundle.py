"""`edge-export verify FOLDER`: is the bundle whole, and does it compute here what it computed where it was made?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError, computed_field

from exporter.bundle import MANIFEST, read_manifest, sha256
from exporter.errors import AccuracyError, DataError, RuntimeUnavailable
from exporter.verify.detections import DetectionMeter, Tolerance
from exporter.verify.devices.facts import Latency
from exporter.verify.files import open_runtime
from exporter.verify.latency import measure_latency
from exporter.verify.processor import processor


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True)


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


class BundleCheck(_Row):
    """What `verify_bundle` found. File names are relative to `folder`; `files` counts those of the manifest."""

    folder: str
    model: str
    files: int
    changed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    """Files that the manifest does not list: reported, no failure."""
    targets: tuple[TargetCheck, ...] = ()
    processor: str = ""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def passed(self) -> bool:
        """Every file as the manifest says, every golden output within its tolerance."""
        golden = [row for check in self.targets for row in check.golden]
        return not (self.changed or self.missing) and all(row.passed for row in golden)

    def raise_on_failure(self) -> None:
        """DataError for missing or changed files, else AccuracyError for golden outputs that differ."""
        if self.missing or self.changed:
            raise DataError(
                f"{self.folder} is not as it was exported",
                where=[f"missing  {name}" for name in self.missing] + [f"changed  {name}" for name in self.changed],
                try_="copy the bundle again, or export again",
            )
        for check in self.targets:
            check.raise_on_failure()


class _Array(_Row):
    """An entry of golden.json: a raw little-endian array."""

    name: str
    file: str
    dtype: str
    shape: tuple[int, ...]
    tolerance: float = 0.0


class _Detections(_Row):
    """Which outputs are boxes, class ids, scores and number, and when two results are the same."""

    outputs: tuple[str, str, str, str]
    least_iou: float
    most_score: float
    least_share: float


class _Golden(_Row):
    runtime: str
    inputs: tuple[_Array, ...]
    outputs: tuple[_Array, ...]
    detections: _Detections | None = None


def verify_bundle(folder: Path) -> BundleCheck:
    """Compare every file with the manifest's sha256, then run each target's golden input on the local runtime and time
    it.

    A model only runs when its file and its golden files are unchanged. Raises DataError for a folder that is no bundle,
    and the errors of the runtimes.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    listed: Mapping[str, Any] = manifest["files"]
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {MANIFEST}
    check = BundleCheck(
        folder=str(folder),
        model=str(manifest.get("model", "")),
        files=len(listed),
        missing=tuple(sorted(listed.keys() - found)),
        changed=tuple(name for name in sorted(listed.keys() & found) if not _same(folder / name, listed[name])),
        extra=tuple(sorted(found - listed.keys())),
        processor=processor(),
    )
    checked = tuple(_check(folder, name, file, check, listed) for name, file in _models(manifest).items())
    return check.model_copy(update={"targets": checked})


def _models(manifest: Mapping[str, Any]) -> dict[str, str]:
    """File name of each target."""
    targets = manifest.get("targets")
    return {str(name): str(file) for name, file in targets.items()} if isinstance(targets, dict) else {}


def _check(folder: Path, target: str, file: str, check: BundleCheck, listed: Mapping[str, Any]) -> TargetCheck:
    here = f"golden/{target}"
    why = ""
    if f"{here}/golden.json" not in listed:
        why = "the bundle has no golden files: its export stopped before verify"
    elif not any(_inside(name, file) for name in listed):
        why = f"the manifest does not list {file}"
    elif damaged := [n for n in (*check.missing, *check.changed) if _inside(n, file) or _inside(n, here)]:
        why = f"{', '.join(damaged)} cannot be trusted"
    result = TargetCheck(target=target, file=file, golden_note=why)
    return result if why else result.model_copy(update=_run(folder / here / "golden.json", folder / file))


def _inside(name: str, place: str) -> bool:
    """Whether a listed file is `place` itself, or in that folder."""
    return name == place or name.startswith(f"{place}/")


def _same(path: Path, entry: Any) -> bool:
    expected = entry.get("sha256") if isinstance(entry, dict) else None
    try:
        return sha256(path) == expected
    except OSError as error:
        raise DataError(f"cannot read {path}", why=error.strerror or str(error)) from error


def _run(path: Path, file: Path) -> dict[str, Any]:
    """The fields of TargetCheck that need the runtime."""
    try:
        golden = _Golden.model_validate_json(path.read_text())
        inputs = {entry.name: _read(path.parent, entry) for entry in golden.inputs}
        expected = {entry.name: _read(path.parent, entry) for entry in golden.outputs}
    except (OSError, ValidationError, ValueError, TypeError) as error:
        raise DataError(f"{path} is damaged", why=str(error).splitlines()[0], try_="export again") from error
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
    golden: _Detections, expected: Mapping[str, np.ndarray], results: Mapping[str, np.ndarray]
) -> GoldenOutput:
    """All four outputs as one: the share of detections that did not come again."""
    meter = DetectionMeter("golden", "golden", Tolerance(golden.least_iou, golden.most_score))
    meter.add(*([torch.from_numpy(arrays[name]) for name in golden.outputs] for arrays in (expected, results)))
    missing = 1 - meter.result().share
    return GoldenOutput(output="detections", difference=missing, tolerance=1 - golden.least_share)


def _read(folder: Path, entry: _Array) -> np.ndarray:
    dtype = np.dtype(entry.dtype)
    stored = np.frombuffer((folder / entry.file).read_bytes(), dtype.newbyteorder("<"))
    return stored.astype(dtype).reshape(entry.shape)


def _shapes(arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in arrays.items()}


def _difference(got: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(got.astype(np.float64) - expected.astype(np.float64)).max(initial=0.0))
