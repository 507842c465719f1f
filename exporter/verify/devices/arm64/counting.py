"""Instructions and bytes of one inference on an emulated core."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from exporter.errors import RuntimeUnavailable
from exporter.verify.devices.arm64.device import COUNTED, Arm64Device
from exporter.verify.devices.arm64.operators import operators
from exporter.verify.devices.arm64.place import COMMAND
from exporter.verify.devices.arm64.plugin import Region, read_region
from exporter.verify.devices.facts import Counts, EmulatedDevice, OpCount
from exporter.verify.devices.protocol import Device, Workspace
from exporter.verify.devices.runner import MARKER, START, STOP
from exporter.verify.devices.session import Job, device_facts, run_there
from exporter.verify.runtimes import litert_events
from exporter.verify.runtimes.litert import LiteRT
from exporter.verify.runtimes.litert_file import read_file
from exporter.verify.runtimes.litert_profile import TRIED

EVENTS = Path(litert_events.__file__)


def counts(device: Device, job: Job) -> Counts:
    """One inference of the job's first sample, single-threaded, after one that is not counted.

    The whole is what the runner's one call takes, the interpreter's Python included (some thousand instructions). The
    operators are of a second run, with LiteRT's profiler on, so their sum is a little apart from it. Raises
    RuntimeUnavailable where the plugin is missing, and what `run_job` raises.
    """
    if not device.can_count:
        why = device.why_not_counting if isinstance(device, Arm64Device) else "only emulated ARM cores can"
        raise RuntimeUnavailable(f"{device.name} cannot count instructions", why=why, try_=COMMAND)
    job = replace(job, feeds=job.feeds[:1], threads=1, runs=0)
    with device.workspace() as there, tempfile.TemporaryDirectory() as scratch:
        result = run_there(device, there, job, Path(scratch), counted=True)
        whole = _region(there, Path(scratch)).sums
        told = job.model.suffix == ".tflite" and result["runtime"].startswith(
            tuple(f"ai-edge-litert {v}" for v in TRIED)
        )
        ops = _operators(there, job.model, job.feeds[0], Path(scratch)) if told else ()
    facts = device_facts(device, result["facts"])
    assert isinstance(facts, EmulatedDevice)
    return Counts(
        device=facts,
        instructions=whole.instructions,
        loaded_bytes=whole.loaded,
        stored_bytes=whole.stored,
        ops=ops,
    )


def _operators(there: Workspace, model: Path, feed: Mapping[str, np.ndarray], scratch: Path) -> tuple[OpCount, ...]:
    """From a run in LiteRT's C interface with its profiler on."""
    file = LiteRT(model)
    spec = {
        "runs": 1,
        "warmup": 0,
        "threads": 1,
        "inputs": {info.name: (info.dtype, info.shape) for info in file.inputs},
        "outputs": {info.name: (info.dtype, info.shape) for info in file.outputs},
        "marks": [[MARKER, START], [MARKER, STOP]],
    }
    np.savez(scratch / "inputs.npz", **feed)  # type: ignore[arg-type]  # numpy's stub takes the names for keywords
    (scratch / "spec.json").write_text(json.dumps(spec))
    for path in (EVENTS, scratch / "inputs.npz", scratch / "spec.json"):
        there.push(path)
    done = there.python(EVENTS.name, model.name, "inputs.npz", "spec.json", counted=True)
    if done.code:
        return ()
    events = [(kind, name, number) for kind, name, number, _ in json.loads(done.out)]
    return operators(events, _region(there, scratch).calls, read_file(model))


def _region(there: Workspace, scratch: Path) -> Region:
    there.pull(COUNTED, scratch)
    return read_region((scratch / COUNTED).read_text().splitlines())
