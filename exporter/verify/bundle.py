"""`edge-export verify FOLDER`: is the bundle whole, and does it compute here what it computed where it was made?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, computed_field

from exporter.bundle import MANIFEST, read_manifest, sha256
from exporter.errors import DataError
from exporter.recipe import Gates
from exporter.verify.device_gates import judge_devices, judge_evaluation
from exporter.verify.devices import Device
from exporter.verify.gates import raise_on_failure
from exporter.verify.golden import TargetCheck, run_golden
from exporter.verify.metrics.bundles import evaluate_bundle
from exporter.verify.on_device import DeviceCheck, Reference
from exporter.verify.processor import processor
from exporter.verify.results import Evaluation, Gate, Report
from exporter.verify.subjects import files_of, subjects, twins


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True)


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
    devices: tuple[DeviceCheck, ...] = ()
    """In the order in which they were asked for, file by file."""
    evaluation: Evaluation | None = None
    """On a labelled set, where one was given."""
    gates: tuple[Gate, ...] = ()
    """On what the devices gave."""
    report: Report | None = None
    """What was measured at export; None where the export stopped before."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def passed(self) -> bool:
        """Every file as the manifest says, every golden output within its tolerance, every device and gate."""
        golden = [row for check in self.targets for row in check.golden]
        gates = (*self.gates, *self.exported)
        unproven = any(row.problem for row in self.devices)
        held = all(row.passed for row in golden) and all(gate.passed for gate in gates)
        return held and not (self.changed or self.missing or unproven)

    @property
    def exported(self) -> tuple[Gate, ...]:
        """The gates that were judged at export."""
        found = self.report.verification if self.report else None
        return found.gates if found else ()

    def raise_on_failure(self) -> None:
        """DataError for missing or changed files, else AccuracyError or BudgetError for golden outputs and gates, else
        what kept a device from running.
        """
        if self.missing or self.changed:
            raise DataError(
                f"{self.folder} is not as it was exported",
                where=[f"missing  {name}" for name in self.missing] + [f"changed  {name}" for name in self.changed],
                try_="copy the bundle again, or export again",
            )
        for check in self.targets:
            check.raise_on_failure()
        raise_on_failure(self.exported, " when it was exported")
        causes = [f"{row.device} {row.target}: differs first at {op}" for row in self.devices for op in row.differing]
        raise_on_failure(self.gates, causes=causes)
        for row in self.devices:
            if row.problem:
                raise row.problem.error()


@dataclass(frozen=True)
class OnDevices:
    """What `verify --on` was asked: where to run, the float export beside it, which pictures, and counts of before."""

    devices: Sequence[Device]
    twin: Path | None = None
    images: str | None = None
    baseline: Sequence[DeviceCheck] = ()


@dataclass(frozen=True)
class OnLabels:
    """What `verify --eval` was asked: labelled pictures, and how many of them at most."""

    source: str
    limit: int | None = None


def verify_bundle(
    folder: Path,
    on: OnDevices | None = None,
    say: Callable[[str], None] = lambda text: None,
    labelled: OnLabels | None = None,
) -> BundleCheck:
    """Compare every file with the manifest's sha256, then run each target's golden input on the local runtime and time
    it; then run the files on devices, and judge what they gave; then run them on labelled pictures, here and there.
    `say` is told what runs.

    A model only runs when its file and its golden files are unchanged, on a device when the whole bundle is. Raises
    DataError for a folder that is no bundle, and the errors of the local runtimes; what goes wrong on a device is in
    the result.
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
    checked = tuple(_check(folder, name, file, check, listed) for name, file in files_of(manifest).items())
    check = check.model_copy(update={"targets": checked, "report": _report(folder, check)})
    if check.missing or check.changed or not (on or labelled):
        return check
    runnable = {row.target: row.file for row in checked if not row.golden_note}
    gates, before = _gates(manifest), on.baseline if on else ()
    rows = tuple(_on_devices(folder, runnable, on, say)) if on else ()
    evaluation = None
    if labelled:
        devices = on.devices if on else ()
        evaluation = evaluate_bundle(
            folder,
            subjects(folder, runnable, None),
            devices,
            rows,
            labelled.source,
            labelled.limit,
            _tenths(say),
        )
    judged = (*judge_devices(rows, gates, before), *judge_evaluation(evaluation, rows, gates))
    return check.model_copy(update={"devices": rows, "evaluation": evaluation, "gates": judged})


def _on_devices(
    folder: Path, files: Mapping[str, str], on: OnDevices, say: Callable[[str], None]
) -> Iterator[DeviceCheck]:
    """File by file, so that this machine's own outputs are held for one at a time."""
    asked = subjects(folder, files, on.images)
    floats = twins(on.twin, folder) if on.twin else {}
    if absent := [each.target for each in asked if on.twin and each.target not in floats]:
        raise DataError(f"{on.twin} has no {absent[0]} file", try_=f"export it with --target {absent[0]}")
    for subject in asked:
        reference = Reference(subject)
        for device in on.devices:
            say(f"{device.name}  {subject.path.name}")
            yield reference.check(device, floats.get(subject.target))


def _tenths(say: Callable[[str], None]) -> Callable[[int, int], None]:
    """A line for every tenth of the pictures."""
    told: set[int] = set()

    def progress(done: int, total: int) -> None:
        if (tenth := 10 * done // total) not in told:
            told.add(tenth)
            say(f"evaluation  {done} of {total} pictures")

    return progress


def _report(folder: Path, check: BundleCheck) -> Report | None:
    """None where there is none, or it is not what was exported."""
    path = folder / "report.json"
    if path.name in (*check.missing, *check.changed, *check.extra) or not path.is_file():
        return None
    try:
        return Report.model_validate_json(path.read_text())
    except (OSError, ValidationError) as error:
        raise DataError(f"{path} is damaged", why=str(error).splitlines()[0], try_="export again") from error


def _gates(manifest: Mapping[str, Any]) -> Gates:
    recipe = manifest.get("recipe")
    try:
        return Gates.model_validate(recipe.get("gates", {}) if isinstance(recipe, dict) else {})
    except ValidationError as error:
        raise DataError(
            "the manifest's gates cannot be read", why=str(error).splitlines()[0], try_="export again"
        ) from error


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
    return result if why else result.model_copy(update=run_golden(folder / here / "golden.json", folder / file))


def _inside(name: str, place: str) -> bool:
    """Whether a listed file is `place` itself, or in that folder."""
    return name == place or name.startswith(f"{place}/")


def _same(path: Path, entry: Any) -> bool:
    expected = entry.get("sha256") if isinstance(entry, dict) else None
    try:
        return sha256(path) == expected
    except OSError as error:
        raise DataError(f"cannot read {path}", why=error.strerror or str(error)) from error
