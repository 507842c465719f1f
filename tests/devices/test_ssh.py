"""ssh devices, through a genuine sshd on loopback: its own ways to fail."""

from __future__ import annotations

import dataclasses
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from devices.board import board
from devices.double import Double
from devices.remote_job import ENDLESS, copy_job, refused, while_at_work

from exporter.verify.devices import Job


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Double]:
    with board(tmp_path) as found:
        yield found


@pytest.fixture
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    return copy_job(tmp_path_factory.mktemp("model"))


def test_a_wrong_key(host: Double, job: Job):
    (host.folder / "authorized_keys").write_text("")
    error = refused(host.name, job)
    assert error.what == f"no connection to {host.name}"
    assert "Permission denied (publickey)" in error.why
    assert "must work without a question" in error.try_[0]


def test_an_unknown_host_is_not_trusted_in_silence(host: Double, job: Job):
    (host.folder / "known_hosts").write_text("")
    error = refused(host.name, job)
    assert "Host key verification failed" in error.why
    assert "connect once by hand" in error.try_[0]
    assert (host.folder / "known_hosts").read_text() == ""


def test_a_host_with_another_key_than_before(host: Double, job: Job):
    name, kind, _ = (host.folder / "known_hosts").read_text().split(maxsplit=2)
    other = (host.folder / "user_key.pub").read_text().split()[1]
    (host.folder / "known_hosts").write_text(f"{name} {kind} {other}\n")
    assert "Host key verification failed" in refused(host.name, job).why


def test_a_port_that_nobody_listens_on(host: Double, job: Job):
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


@pytest.mark.slow
def test_a_host_that_falls_silent(host: Double, job: Job):
    thread = while_at_work(host, lambda: host.kill(signal.SIGSTOP))
    error = refused(host.name, dataclasses.replace(job, runs=ENDLESS))
    thread.join()
    assert error.what == f"the connection to {host.name} was lost"
    assert "Timeout" in error.why
    host.kill(signal.SIGCONT)
    assert host.left == []


def test_a_device_whose_folder_cannot_be_written(host: Double, job: Job):
    (host.folder / "tmp").rmdir()
    error = refused(host.name, job)
    assert error.what == f"no folder can be made on {host.name}"
    assert "No such file or directory" in error.why


def test_a_device_without_python(tmp_path: Path, job: Job):
    with board(tmp_path, path="/nowhere") as host:
        (host.folder / "bin" / "python3").unlink()
        for name in ("sh", "mktemp", "cat", "rm"):
            (host.folder / "bin" / name).symlink_to(f"/bin/{name}")
        error = refused(host.name, job)
        assert error.what == f"there is no python3 on {host.name}"
        assert host.left == []


def test_a_shell_that_greets(host: Double, job: Job):
    host.program("sh", 'echo "Welcome to the board"; exec /bin/sh "$@"')
    error = refused(host.name, job)
    assert error.what == f"the shell on {host.name} prints text before it runs a command"
    assert error.why == "Welcome to the board"
    assert host.left == []
