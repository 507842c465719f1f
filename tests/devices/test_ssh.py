"""ssh devices, through a genuine sshd on loopback: what works, and every way in which it does not."""

from __future__ import annotations

import dataclasses
import os
import platform
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from board import Board, board
from verify.small_tflite import SHAPE, int8_conv

from exporter.errors import RuntimeUnavailable
from exporter.verify.devices import Job, device, run_job
from exporter.verify.devices.arm64.emulator import emulated, environment
from exporter.verify.devices.arm64.place import home
from exporter.verify.devices.arm64.wheels import LITERT
from exporter.verify.devices.facts import EmulatedDevice, RealDevice

ENDLESS = 10_000_000
"""Timed runs that no test waits for."""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Board]:
    with board(tmp_path) as found:
        yield found


@pytest.fixture
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    model = tmp_path_factory.mktemp("model") / "copy.tflite"
    model.write_bytes(int8_conv())
    codes = np.random.default_rng(0).integers(-128, 128, (2, *SHAPE)).astype(np.int8)
    return Job(model, [{"image": sample[None]} for sample in codes[:, 0]], runs=5)


def refused(name: str, job: Job) -> RuntimeUnavailable:
    with pytest.raises(RuntimeUnavailable) as raised:
        run_job(device(name), job)
    assert raised.value.exit_code == 7
    return raised.value


def test_outputs_and_times_come_back_and_nothing_stays(host: Board, job: Job):
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


def test_the_runner_is_kept_on_the_cores_asked_for(host: Board, job: Job):
    core = max(os.sched_getaffinity(0))
    ran = run_job(device(f"{host.name}?cores={core}"), job)
    assert isinstance(ran.device, RealDevice)
    assert ran.device.cores == (core,)


def test_a_python_of_ones_own(host: Board, job: Job):
    (host.folder / "bin" / "python3").rename(host.folder / "bin" / "own")
    python = host.folder / "bin" / "own"
    assert run_job(device(f"{host.name}?python={python}"), job).outputs
    error = refused(f"{host.name}?python=/no/python", job)
    assert error.what == f"there is no /no/python on {host.name}?python=/no/python"


def test_a_board_that_is_emulated_is_found_out_and_not_timed(host: Board, job: Job, arm64: None):
    variables = [f"{key}={value}" for key, value in environment(home(), LITERT).items()]
    host.program("python3", f'exec env -i {shlex.join([*variables, *emulated(home(), "cortex-a76")])} "$@"')
    ran = run_job(device(host.name), job)
    assert isinstance(ran.device, EmulatedDevice)
    assert ran.device.machine == "aarch64"
    assert ran.device.emulator == "user-mode emulation on x86"
    assert ran.latency is None
    for here, there in zip(run_job(device("local"), job).outputs, ran.outputs, strict=True):
        np.testing.assert_array_equal(here["copy"], there["copy"])
    assert host.left == []


def test_a_wrong_key(host: Board, job: Job):
    (host.folder / "authorized_keys").write_text("")
    error = refused(host.name, job)
    assert error.what == f"no connection to {host.name}"
    assert "Permission denied (publickey)" in error.why
    assert "must work without a question" in error.try_[0]


def test_an_unknown_host_is_not_trusted_in_silence(host: Board, job: Job):
    (host.folder / "known_hosts").write_text("")
    error = refused(host.name, job)
    assert "Host key verification failed" in error.why
    assert "connect once by hand" in error.try_[0]
    assert (host.folder / "known_hosts").read_text() == ""


def test_a_host_with_another_key_than_before(host: Board, job: Job):
    name, kind, _ = (host.folder / "known_hosts").read_text().split(maxsplit=2)
    other = (host.folder / "user_key.pub").read_text().split()[1]
    (host.folder / "known_hosts").write_text(f"{name} {kind} {other}\n")
    assert "Host key verification failed" in refused(host.name, job).why


def test_a_port_that_nobody_listens_on(host: Board, job: Job):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        error = refused(f"ssh://127.0.0.1:{probe.getsockname()[1]}", job)
    assert "Connection refused" in error.why
    assert error.try_ == ("sshd must run there, on that port",)


def test_no_ssh_here(job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    error = refused("ssh://127.0.0.1", job)
    assert error.what == "there is no ssh on this machine"
    assert error.try_ == ("apt install openssh-client",)


def while_at_work(host: Board, act: Callable[[], None]) -> threading.Thread:
    def run() -> None:
        host.at_work()
        act()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_host_that_goes_away_in_the_middle(host: Board, job: Job):
    thread = while_at_work(host, host.kill)
    error = refused(host.name, dataclasses.replace(job, runs=ENDLESS))
    thread.join()
    assert error.what == f"the connection to {host.name} was lost"
    assert "closed by remote host" in error.why
    assert host.left == []
    assert not host.running()


@pytest.mark.slow
def test_a_host_that_falls_silent(host: Board, job: Job):
    thread = while_at_work(host, lambda: host.kill(signal.SIGSTOP))
    start = time.monotonic()
    error = refused(host.name, dataclasses.replace(job, runs=ENDLESS))
    thread.join()
    assert error.what == f"the connection to {host.name} was lost"
    assert "Timeout" in error.why
    assert time.monotonic() - start < 60
    host.kill(signal.SIGCONT)
    assert host.left == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "killed"])
def test_a_command_that_is_ended_here(host: Board, job: Job, number: signal.Signals):
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
    assert not host.running()


def test_a_device_without_room_for_the_model(tmp_path: Path, job: Job):
    job.model.write_bytes(int8_conv() + bytes(100_000))
    with board(tmp_path, kilobytes=64) as host:
        error = refused(host.name, job)
        assert error.what == f"cannot write copy.tflite to {host.name}"
        assert "No space left on device" in error.why
        assert host.left == []


def test_a_device_without_room_for_the_outputs(tmp_path: Path, job: Job):
    with board(tmp_path, kilobytes=96) as host:
        feeds = [job.feeds[0]] * 12  # each a page, and each output another
        error = refused(host.name, dataclasses.replace(job, feeds=feeds))
        assert error.what == f"the runner ended with 1 on {host.name}"
        assert "No space left on device" in error.where[-1]
        assert host.left == []


def test_a_device_whose_folder_cannot_be_written(host: Board, job: Job):
    (host.folder / "tmp").rmdir()
    error = refused(host.name, job)
    assert error.what == f"no folder can be made on {host.name}"
    assert "No such file or directory" in error.why


@pytest.mark.parametrize(
    ("number", "ending"), [(signal.SIGSEGV, "SIGSEGV"), (signal.SIGKILL, "SIGKILL")], ids=["segfault", "out of memory"]
)
def test_a_runner_that_crashes(host: Board, job: Job, number: signal.Signals, ending: str):
    host.module("ai_edge_litert/__init__.py", "")
    host.module("ai_edge_litert/interpreter.py", f"import os\nos.kill(os.getpid(), {number.value})")
    error = refused(host.name, job)
    assert error.what == f"the runner was ended by {ending} on {host.name}"
    assert host.left == []


def test_a_device_without_python(tmp_path: Path, job: Job):
    with board(tmp_path, path="/nowhere") as host:
        (host.folder / "bin" / "python3").unlink()
        for name in ("sh", "mktemp", "cat", "rm"):
            (host.folder / "bin" / name).symlink_to(f"/bin/{name}")
        error = refused(host.name, job)
        assert error.what == f"there is no python3 on {host.name}"
        assert host.left == []


def test_a_python_that_is_too_old(host: Board, job: Job):
    host.module("sitecustomize.py", "import sys\nsys.version_info = (3, 6, 9, 'final', 0)")
    error = refused(host.name, job)
    assert error.what == f"python3 on {host.name} is too old"
    assert error.why == "Python 3.6"


def test_a_python_without_numpy(host: Board, job: Job):
    host.program("python3", f'exec {sys.executable} -S "$@"')
    error = refused(host.name, job)
    assert error.what == f"python3 on {host.name} cannot run the runner"
    assert error.why == "ModuleNotFoundError: No module named 'numpy'"
    assert host.left == []


def test_a_python_without_a_runtime(host: Board, job: Job):
    host.program("python3", f'exec {sys.executable} -S "$@"')
    for folder in Path(np.__file__).parents[1].glob("numpy*"):
        (host.folder / "site" / folder.name).symlink_to(folder)
    error = refused(host.name, job)
    assert error.what == f"{host.name} has no runtime for copy.tflite"
    assert "ai-edge-litert: No module named 'ai_edge_litert'" in error.why
    assert host.left == []


def test_a_shell_that_greets(host: Board, job: Job):
    host.program("sh", 'echo "Welcome to the board"; exec /bin/sh "$@"')
    error = refused(host.name, job)
    assert error.what == f"the shell on {host.name} prints text before it runs a command"
    assert error.why == "Welcome to the board"
    assert host.left == []
