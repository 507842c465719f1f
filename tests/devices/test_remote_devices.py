"""What ssh and adb devices have in common, through a genuine sshd and a genuine adbd."""

from __future__ import annotations

import dataclasses
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from devices.board import board
from devices.double import Double
from devices.phone import phone
from devices.remote_job import ENDLESS, copy_job, emulate, refused, while_at_work
from verify.small_tflite import SHAPE, int8_conv

from exporter.verify.devices import Job, device, run_job
from exporter.verify.devices.facts import EmulatedDevice, RealDevice

Start = Callable[..., AbstractContextManager[Double]]


@pytest.fixture(params=[board, phone], ids=["ssh", "adb"])
def start(request: pytest.FixtureRequest) -> Start:
    return request.param


@pytest.fixture
def host(start: Start, tmp_path: Path) -> Iterator[Double]:
    with start(tmp_path) as double:
        yield double


@pytest.fixture
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    return copy_job(tmp_path_factory.mktemp("model"))


def test_outputs_and_times_come_back_and_nothing_stays(host: Double, job: Job):
    ran = run_job(device(host.name), job)
    for feed, outputs in zip(job.feeds, ran.outputs, strict=True):
        np.testing.assert_array_equal(outputs["copy"], feed["image"])
    assert isinstance(ran.device, RealDevice)
    assert ran.device.name == host.name
    assert ran.device.machine == platform.machine()
    assert ran.device.cores == tuple(sorted(os.sched_getaffinity(0)))
    assert ran.latency is not None
    assert ran.latency.runs == 5
    assert 0 < ran.latency.min_ms <= ran.latency.median_ms <= ran.latency.p90_ms
    assert len(ran.latency.warmup_ms) == 3
    assert host.left == []


def test_the_runner_is_kept_on_the_cores_asked_for(host: Double, job: Job):
    core = max(os.sched_getaffinity(0))
    ran = run_job(device(f"{host.name}?cores={core}"), job)
    assert isinstance(ran.device, RealDevice)
    assert ran.device.cores == (core,)


def test_a_python_of_ones_own(host: Double, job: Job):
    (host.folder / "bin" / "python3").rename(host.folder / "bin" / "own")
    python = host.folder / "bin" / "own"
    assert run_job(device(f"{host.name}?python={python}"), job).outputs
    error = refused(f"{host.name}?python=/no/python", job)
    assert error.what == f"there is no /no/python on {host.name}"


def test_a_device_that_is_emulated_is_found_out_and_not_timed(host: Double, job: Job, arm64: None):
    emulate(host, "cortex-a76")
    ran = run_job(device(host.name), job)
    assert isinstance(ran.device, EmulatedDevice)
    assert ran.device.machine == "aarch64"
    assert ran.device.emulator == "user-mode emulation on x86"
    assert ran.latency is None
    for here, there in zip(run_job(device("local"), job).outputs, ran.outputs, strict=True):
        np.testing.assert_array_equal(here["copy"], there["copy"])
    assert host.left == []


def test_a_host_that_goes_away_in_the_middle(host: Double, job: Job):
    thread = while_at_work(host, host.kill)
    error = refused(host.name, dataclasses.replace(job, runs=ENDLESS))
    thread.join()
    assert error.what == f"the connection to {host.name} was lost"
    assert error.why
    assert host.left == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "killed"])
def test_a_command_that_is_ended_here(host: Double, job: Job, number: signal.Signals):
    script = (
        "from exporter.verify.devices import *; import numpy as np, pathlib\n"
        f"feed = {{'image': np.zeros({SHAPE}, np.int8)}}\n"
        f"run_job(device('{host.name}'), Job(pathlib.Path('{job.model}'), [feed, feed], runs={ENDLESS}))"
    )
    command = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL, start_new_session=True)
    host.at_work()
    if number == signal.SIGINT:
        os.killpg(command.pid, number)  # the terminal gives it to the ssh processes too
    else:
        command.kill()
    command.wait(30)
    assert host.left == []


def test_a_device_without_room_for_the_model(start: Start, tmp_path: Path, job: Job):
    job.model.write_bytes(int8_conv() + bytes(100_000))
    with start(tmp_path, kilobytes=64) as host:
        error = refused(host.name, job)
        assert error.what == f"cannot write copy.tflite to {host.name}"
        assert "No space left on device" in error.why
        assert host.left == []


def test_a_device_without_room_for_the_outputs(start: Start, tmp_path: Path, job: Job):
    with start(tmp_path, kilobytes=96) as host:
        feeds = [job.feeds[0]] * 12  # each a page, and each output another
        error = refused(host.name, dataclasses.replace(job, feeds=feeds))
        assert error.what == f"the runner ended with 1 on {host.name}"
        assert "No space left on device" in error.where[-1]
        assert host.left == []


@pytest.mark.parametrize(
    ("number", "ending"), [(signal.SIGSEGV, "SIGSEGV"), (signal.SIGKILL, "SIGKILL")], ids=["segfault", "out of memory"]
)
def test_a_runner_that_crashes(host: Double, job: Job, number: signal.Signals, ending: str):
    host.module("ai_edge_litert/__init__.py", "")
    host.module("ai_edge_litert/interpreter.py", f"import os\nos.kill(os.getpid(), {number.value})")
    error = refused(host.name, job)
    assert error.what == f"the runner was ended by {ending} on {host.name}"
    assert host.left == []


def test_a_python_that_is_too_old(host: Double, job: Job):
    host.module("sitecustomize.py", "import sys\nsys.version_info = (3, 6, 9, 'final', 0)")
    error = refused(host.name, job)
    assert error.what == f"python3 on {host.name} is too old"
    assert error.why == "Python 3.6"


def test_a_python_without_numpy(host: Double, job: Job):
    host.program("python3", f'exec {sys.executable} -S "$@"')
    error = refused(host.name, job)
    assert error.what == f"python3 on {host.name} cannot run the runner"
    assert error.why == "ModuleNotFoundError: No module named 'numpy'"
    assert host.left == []


def test_a_python_without_a_runtime(host: Double, job: Job):
    host.program("python3", f'exec {sys.executable} -S "$@"')
    for folder in Path(np.__file__).parents[1].glob("numpy*"):
        (host.folder / "site" / folder.name).symlink_to(folder)
    error = refused(host.name, job)
    assert error.what == f"{host.name} has no runtime for copy.tflite"
    assert "ai-edge-litert: No module named 'ai_edge_litert'" in error.why
    assert host.left == []
