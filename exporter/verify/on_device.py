"""A file of a bundle on a device, held against this machine on the same inputs: codes in LSB, floats in dB, cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

from exporter.errors import DataError, ExportError
from exporter.verify.borders import Border
from exporter.verify.codes import codes
from exporter.verify.detections import SAME, DetectionMeter
from exporter.verify.devices import Device, Job, run_job
from exporter.verify.devices.facts import Counts, DeviceFacts, Latency
from exporter.verify.differing_op import differing_ops
from exporter.verify.files import open_runtime
from exporter.verify.parity import CodeMeter, SnrMeter
from exporter.verify.photos import Feed
from exporter.verify.results import Codes, Matched, Snr
from exporter.verify.runtimes.onnxruntime import multiplies_in_16_bits

RUNS = 20
"""Timed inferences of one file on a real device."""
FORMATS = (".tflite", ".onnx")
"""What devices run; a .mlpackage runs on Macs alone."""
SATURATES = (
    "this machine has no VNNI, and onnxruntime's int8 kernels saturate without it: its own side ran with the optimiser "
    "off, in float between the codes. Shown, not judged"
)

Outputs = dict[str, np.ndarray]


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True)


class Problem(_Row):
    """Why a device gave nothing: an error of `exporter.errors`."""

    what: str
    where: tuple[str, ...] = ()
    why: str = ""
    try_: tuple[str, ...] = ()
    exit_code: int

    @classmethod
    def of(cls, error: ExportError) -> Problem:
        """Its parts."""
        return cls(what=error.what, where=error.where, why=error.why, try_=error.try_, exit_code=error.exit_code)

    def error(self) -> ExportError:
        """To be raised again."""
        kinds = (kind for kind in ExportError.__subclasses__() if kind.exit_code == self.exit_code)
        return next(kinds, ExportError)(self.what, where=self.where, why=self.why, try_=self.try_)


class DeviceCheck(_Row):
    """One file on one device (`device` is as asked for) against this machine; parity over `samples` inputs.

    `latency` and `counts` are by precision: of the file, and of the float export that it is compared with.
    """

    device: str
    target: str
    file: str
    problem: Problem | None = None
    facts: DeviceFacts | None = None
    runtime: str = ""
    reference: str = ""
    """Runtime and kernels of this machine's side."""
    samples: int = 0
    codes: tuple[Codes, ...] = ()
    differing: tuple[str, ...] = ()
    """Where codes begin to differ: operators of a .tflite file that had equal operands."""
    floats: tuple[Snr, ...] = ()
    detections: tuple[Matched, ...] = ()
    judged: bool = True
    """Whether both sides compute alike, so that gates apply to their difference."""
    notes: tuple[str, ...] = ()
    latency: dict[str, Latency] = {}
    counts: dict[str, Counts] = {}


@dataclass(frozen=True)
class Subject:
    """A file of a bundle with what it is fed. `sound`: this machine's side runs without onnxruntime's optimiser."""

    target: str
    path: Path
    precision: str
    feeds: Sequence[Feed]
    borders: tuple[tuple[Border, ...], tuple[Border, ...]] = ((), ())
    """Inputs and outputs; none of a file that is only timed."""
    detections: tuple[str, ...] = ()
    """Names of boxes, class ids, scores and number, where these are outputs."""
    reduced_range: bool = False

    @property
    def job(self) -> Job:
        """To be timed on real devices."""
        return Job(self.path, self.feeds, runs=RUNS)

    @property
    def sound(self) -> bool:
        """Whether onnxruntime's integer kernels are wrong here."""
        int8 = self.path.suffix == ".onnx" and self.precision == "int8"
        return int8 and multiplies_in_16_bits() and not self.reduced_range


class Reference:
    """This machine's outputs of a subject, computed once for all devices."""

    def __init__(self, subject: Subject) -> None:
        runtime = open_runtime(subject.path, sound=subject.sound)
        self.subject, self.name = subject, f"{runtime.runtime} ({runtime.kernels})"
        self.outputs: list[Outputs] = [runtime.run(feed) for feed in subject.feeds]

    def check(self, device: Device, twin: Subject | None = None) -> DeviceCheck:
        """Run the subject there, and its float twin for its cost. What goes wrong on the device is in the result."""
        subject = self.subject
        row = DeviceCheck(
            device=device.name,
            target=subject.target,
            file=subject.path.name,
            reference=self.name,
            judged=not subject.sound,
            notes=(SATURATES,) if subject.sound else (),
        )
        try:
            ran = run_job(device, subject.job)
            latency = {subject.precision: ran.latency}
            if twin is not None and ran.latency is not None:
                latency[twin.precision] = run_job(device, twin.job).latency
            counts, uncounted = _counts(device, [subject, *([twin] if twin else [])])
            found = ((), (), ()) if ran.no_outputs else compare(subject.borders[1], self.outputs, ran.outputs, subject)
        except ExportError as error:
            return row.model_copy(update={"problem": Problem.of(error)})
        codes, floats, detections = found
        differing, untold = self._differing(device, ran.outputs, codes)
        return row.model_copy(
            update={
                "facts": ran.device,
                "runtime": f"{ran.runtime} ({ran.kernels})",
                "samples": len(ran.outputs),
                "codes": codes,
                "differing": differing,
                "floats": floats,
                "detections": detections,
                "latency": {precision: row for precision, row in latency.items() if row is not None},
                "counts": counts,
                "notes": (*row.notes, *uncounted, *untold, *((ran.no_outputs,) if ran.no_outputs else ())),
            }
        )

    def _differing(
        self, device: Device, given: Sequence[Outputs], rows: Sequence[Codes]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Of the first sample whose outputs differ: the operators, or why they are not known."""
        if self.subject.path.suffix != ".tflite" or not any(row.max_lsb for row in rows):
            return (), ()
        pairs = zip(self.subject.feeds, self.outputs, given, strict=True)
        feed = next(f for f, here, there in pairs if any(not np.array_equal(here[n], there[n]) for n in here))
        try:
            return differing_ops(self.subject.path, device, feed), ()
        except ExportError as error:  # the parity stands
            return (), (f"{device.name} did not tell which operators differ: {error.what}",)


def _counts(device: Device, subjects: Sequence[Subject]) -> tuple[dict[str, Counts], tuple[str, ...]]:
    """Instructions by precision on emulated cores, or why there are none."""
    from exporter.verify.devices.arm64 import Arm64Device, counts

    if not isinstance(device, Arm64Device):
        return {}, ()
    if not device.can_count:
        return {}, (f"{device.name} counted no instructions: {device.why_not_counting}",)
    return {subject.precision: counts(device, subject.job) for subject in subjects}, ()


def compare(
    outputs: Sequence[Border], reference: Sequence[Outputs], given: Sequence[Outputs], subject: Subject
) -> tuple[tuple[Codes, ...], tuple[Snr, ...], tuple[Matched, ...]]:
    """Every output over all samples: by codes where there are any behind it, else by its floats; detections as a set.

    Raises DataError for outputs of other names or shapes.
    """
    detected = set(subject.detections)
    in_codes = {b.info.name: CodeMeter(b.info.name) for b in outputs if b.params and b.info.name not in detected}
    in_floats = {b.info.name: SnrMeter(b.info.name) for b in outputs if not b.params and b.info.name not in detected}
    params = {border.info.name: border.params for border in outputs}
    sets = DetectionMeter(subject.precision, "this machine", SAME)
    for ours, theirs in zip(reference, given, strict=True):
        if (here := _shapes(ours)) != (there := _shapes(theirs)):
            raise DataError(f"{subject.path.name} has other outputs there", where=f"{there}, not {here}")
        for name, meter in in_codes.items():
            known = params[name]
            assert known is not None
            meter.add(*(codes(torch.from_numpy(arrays[name]), known) for arrays in (ours, theirs)))
        for name, snr in in_floats.items():
            snr.add(*(torch.from_numpy(arrays[name]).float() for arrays in (ours, theirs)))
        if detected:
            sets.add(*([torch.from_numpy(arrays[name]) for name in subject.detections] for arrays in (ours, theirs)))
    return (
        tuple(meter.result() for meter in in_codes.values()),
        tuple(snr.result() for snr in in_floats.values()),
        (sets.result(),) if detected else (),
    )


def _shapes(arrays: Outputs) -> dict[str, tuple[int, ...]]:
    return {name: tuple(array.shape) for name, array in sorted(arrays.items())}
