"""Where the time of a .tflite file goes: XNNPACK's operators within its partitions, and TFLite's ops outside them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exporter.errors import UsageError
from exporter.verify.runtimes.litert import LiteRT, Partitions, TensorInfo, match

TRIED = ("2.3.",)
"""Versions of ai-edge-litert whose C structures litert_events.py matches."""
OUTSIDE, DELEGATED = 2, (4, 8)
"""LiteRtProfilerEventType: OPERATOR_INVOKE_EVENT; DELEGATE_OPERATOR_ and DELEGATE_PROFILED_OPERATOR_INVOKE_EVENT."""


@dataclass(frozen=True)
class OpTime:
    """One operator, in order of execution: mean wall-clock microseconds of a run.

    A delegated one carries XNNPACK's name (`Convolution (NHWC, QC8) IGEMM`) and no index, because XNNPACK fuses; one
    outside carries the schema's name (`RESIZE_BILINEAR`) and its index in the file.
    """

    name: str
    microseconds: float
    delegated: bool
    index: int | None = None


@dataclass(frozen=True)
class Profile:
    """Operator times of `runs` runs. The runtime's clock counts whole microseconds: short ops need many runs."""

    ops: tuple[OpTime, ...]
    runs: int
    threads: int
    runtime: str
    partitions: Partitions

    @property
    def microseconds(self) -> float:
        """All operators of one run."""
        return sum(op.microseconds for op in self.ops)

    def by_name(self, *, delegated: bool | None = None) -> dict[str, float]:
        """Share of the whole time per operator name, largest first; of one side of the delegate where asked."""
        shares: defaultdict[str, float] = defaultdict(float)
        for op in self.ops:
            if delegated is None or op.delegated is delegated:
                shares[op.name] += op.microseconds / (self.microseconds or 1)
        return dict(sorted(shares.items(), key=lambda entry: -entry[1]))

    @property
    def outside(self) -> float:
        """Share of the time spent outside the delegate."""
        return sum(self.by_name(delegated=False).values())

    def top(self, count: int = 10) -> list[OpTime]:
        """The slowest single operators."""
        return sorted(self.ops, key=lambda op: -op.microseconds)[:count]


@dataclass(frozen=True)
class NoProfile:
    """Why there is no profile. It is an extra, so its absence is a line in the report and not an error."""

    reason: str


def profile(
    path: Path,
    inputs: Mapping[str, np.ndarray] | Sequence[np.ndarray],
    *,
    runs: int = 20,
    warmup: int = 3,
    threads: int = 1,
) -> Profile | NoProfile:
    """Run `path` in a child process with LiteRT's profiler on. Wrong inputs and files raise as in `LiteRT`."""
    if runs < 1 or warmup < 0:
        raise UsageError(f"cannot profile {runs} runs after {warmup} warm-up runs", try_="runs >= 1 and warmup >= 0")
    model = LiteRT(path, threads=threads)
    arrays = {info.name: array for info, array in zip(model.inputs, match(model.inputs, inputs), strict=True)}
    package, version = model.runtime.split()
    if package != "ai-edge-litert" or not version.startswith(TRIED):
        known = " or ".join(f"{v}x" for v in TRIED)
        return NoProfile(f"{model.runtime}: the profiler's C interface is known for ai-edge-litert {known} only")
    spec = {
        "runs": runs,
        "warmup": warmup,
        "threads": threads,
        "inputs": _names(model.inputs),
        "outputs": _names(model.outputs),
    }
    events = _child(Path(path), arrays, spec)
    if isinstance(events, NoProfile):
        return events
    ops = tuple(
        OpTime(tag, elapsed / runs, kind != OUTSIDE, metadata if kind == OUTSIDE else None)
        for kind, tag, metadata, elapsed in events
        if (kind == OUTSIDE and tag != "DELEGATE") or kind in DELEGATED
    )
    return Profile(ops, runs, threads, model.runtime, model.partitions())


def _child(
    path: Path, arrays: Mapping[str, np.ndarray], spec: Mapping[str, object]
) -> list[tuple[int, str, int, int]] | NoProfile:
    with tempfile.TemporaryDirectory() as folder:
        inputs, told = Path(folder, "inputs.npz"), Path(folder, "spec.json")
        np.savez(inputs, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for keywords of its own
        told.write_text(json.dumps(spec))
        program = Path(__file__).with_name("litert_events.py")
        # -P: the files beside the program must not hide packages of the same name
        command = [sys.executable, "-P", str(program), str(path), str(inputs), str(told)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return [tuple(event) for event in json.loads(done.stdout)]
    if done.returncode < 0:
        return NoProfile(f"LiteRT's profiler died of {signal.Signals(-done.returncode).name}")
    lines = done.stderr.strip().splitlines()
    return NoProfile(lines[-1] if lines else f"LiteRT's profiler ended with code {done.returncode}")


def _names(infos: Sequence[TensorInfo]) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {info.name: (info.dtype, info.shape) for info in infos}
