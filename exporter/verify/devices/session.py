"""One job on one device: what is pushed, what comes back."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from exporter.errors import RuntimeUnavailable, UnsupportedError
from exporter.verify.devices import runner
from exporter.verify.devices.benchmark_model import NO_OUTPUTS, BenchmarkWorkspace
from exporter.verify.devices.facts import DeviceFacts, EmulatedDevice, Latency, RealDevice
from exporter.verify.devices.local import LocalDevice
from exporter.verify.devices.protocol import Completed, Device, Workspace
from exporter.verify.processor import processor

RUNNER, JOB, RESULT = Path(runner.__file__), "job.json", "result.json"
WARMUPS = 3


@dataclass(frozen=True)
class Job:
    """A model file, and arrays by input name for each sample, as the file takes them.

    `runs` inferences are timed on real devices, after warm-ups. `optimise` is of onnxruntime's graph optimiser.
    """

    model: Path
    feeds: Sequence[Mapping[str, np.ndarray]]
    threads: int = 1
    runs: int = 0
    optimise: bool = True


@dataclass(frozen=True)
class Ran:
    """What a device gave: every sample's outputs by name, and the time of one inference on a real device.

    `no_outputs` says why there are none, on devices that can only time a file.
    """

    device: DeviceFacts
    runtime: str
    kernels: str
    outputs: list[dict[str, np.ndarray]]
    latency: Latency | None = None
    no_outputs: str = ""


def run_job(device: Device, job: Job) -> Ran:
    """Push, run, pull. Raises RuntimeUnavailable for a device or runtime that is absent or goes away, UnsupportedError
    for a file that the runtime there refuses.
    """
    with device.workspace() as there, tempfile.TemporaryDirectory() as scratch:
        if isinstance(there, BenchmarkWorkspace):
            return _timed(device, there, job)
        result = run_there(device, there, job, Path(scratch))
        outputs = [
            {
                name: _pulled(there, f"output_{number}_{index}.npy", Path(scratch))
                for index, name in enumerate(result["outputs"])
            }
            for number in range(len(job.feeds))
        ]
    facts = device_facts(device, result["facts"])
    return Ran(facts, result["runtime"], result["kernels"], outputs, _latency(facts, job.threads, result))


def run_there(device: Device, there: Workspace, job: Job, scratch: Path, *, counted: bool = False) -> dict[str, Any]:
    """Push the job and run it: the content of result.json. `counted`: one more inference between the plugin's marks."""
    feeds = []
    for number, feed in enumerate(job.feeds):
        files = {name: f"input_{number}_{index}.npy" for index, name in enumerate(feed)}
        for name, array in feed.items():
            np.save(scratch / files[name], array)
            there.push(scratch / files[name])
        feeds.append(files)
    content = {
        "model": job.model.name,
        "feeds": feeds,
        "threads": job.threads,
        "optimise": job.optimise,
        "warmups": WARMUPS if job.runs else 0,
        "runs": 0 if device.emulator else job.runs,
        "count": counted,
    }
    (scratch / JOB).write_text(json.dumps(content))
    for path in (job.model, RUNNER, scratch / JOB):
        there.push(path)
    done = there.python(RUNNER.name, JOB, counted=counted)
    if done.code not in (0, runner.ABSENT, runner.FAILED):
        raise _crashed(device, done)
    there.pull(RESULT, scratch)
    result: dict[str, Any] = json.loads((scratch / RESULT).read_text())
    result["facts"].update(there.facts())
    if done.code == runner.ABSENT:
        raise RuntimeUnavailable(
            f"{device.name} has no runtime for {job.model.name}",
            why=result["error"],
            try_="install ai-edge-litert (or tflite-runtime) there; onnxruntime for .onnx",
        )
    if done.code == runner.FAILED:
        raise UnsupportedError(f"the runtime on {device.name} refuses {job.model.name}", why=result["error"])
    return result


def device_facts(device: Device, facts: Mapping[str, Any]) -> RealDevice | EmulatedDevice:
    """What the runner reported; emulated when the device is known to be, or the runner finds that it is."""
    common = {
        "name": device.name,
        "machine": facts["machine"],
        "processor": processor(facts["cpuinfo"]),
        "system": facts["system"],
    }
    if emulator := device.emulator or facts["emulator"]:
        return EmulatedDevice(**common, emulator=emulator)
    found = {field: facts[field] for field in ("cores", "governor", "celsius")}
    return RealDevice(**common, **found, throttling=facts.get("throttling", ""))


@cache
def this_machine() -> RealDevice | EmulatedDevice:
    """What runs this process."""
    return device_facts(LocalDevice(), {**runner.facts(), "celsius": runner.celsius()})


def _latency(facts: DeviceFacts, threads: int, result: Mapping[str, Any]) -> Latency | None:
    times = result["times_ms"]
    if not times or not isinstance(facts, RealDevice):
        return None
    return Latency.of(facts, threads, times, result["warmup_ms"])


def _timed(device: Device, there: BenchmarkWorkspace, job: Job) -> Ran:
    if job.model.suffix != ".tflite":
        raise RuntimeUnavailable(
            f"benchmark_model runs no {job.model.suffix} file", where=f"{job.model.name}, {device.name}"
        )
    times, runtime, kernels = there.time(job.model, threads=job.threads, warmups=WARMUPS, runs=max(job.runs, 1))
    facts, latency = device_facts(device, there.facts()), None
    if job.runs and isinstance(facts, RealDevice):
        latency = Latency(
            device=facts, threads=job.threads, median_ms=times.median_ms, min_ms=times.min_ms, runs=times.runs
        )
    return Ran(facts, runtime, kernels, [], latency, NO_OUTPUTS)


def _pulled(there: Workspace, name: str, place: Path) -> np.ndarray:
    there.pull(name, place)
    array: np.ndarray = np.load(place / name)
    return array


def _crashed(device: Device, done: Completed) -> RuntimeUnavailable:
    lines = [line for line in done.err.splitlines() if line.strip()]
    return RuntimeUnavailable(
        f"the runner {done.ending} on {device.name}",
        where=lines[-3:],
        try_="there, python3 -c 'import numpy, ai_edge_litert.interpreter' must end without a word",
    )
