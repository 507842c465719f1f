"""What doubles of devices have in common: a genuine daemon on this machine, with programs and folders of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

DOUBLES = Path(os.environ.get("EDGE_EXPORT_DOUBLES", "/nonexistent"))
"""Where tests/devices/fetch.sh unpacked sshd, adbd, and their clients."""
ROOT = os.geteuid() == 0


@dataclass
class Double:
    """`name` is for --on. `bin` leads the device's PATH, `site` its Python's; `place` is where it makes folders.

    `holder` started `daemon` and outlives it, so that what the device mounted stays in sight. What the daemon starts
    bears DOUBLE in its environment, what its client here leaves behind CLIENT.
    """

    name: str
    folder: Path
    place: str
    daemon: str
    holder: subprocess.Popen[bytes]

    @property
    def tmp(self) -> Path:
        """`place`, as seen from here, whatever the device has mounted."""
        return Path(f"/proc/{self.holder.pid}/root/{self.place}")

    @property
    def left(self) -> list[str]:
        """Folders and runners on the device, once what removes them had the time."""
        deadline = time.monotonic() + 20
        while (names := self._left()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return names

    def program(self, name: str, text: str) -> None:
        """Put a shell script on the device."""
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def module(self, name: str, text: str) -> None:
        """Put a module on the device."""
        path = self.folder / "site" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def running(self, program: str = "runner.py") -> bool:
        """Whether a program is at work on the device."""
        return any(program in _said(pid, "cmdline") for pid in self._sessions())

    def at_work(self, program: str = "runner.py") -> None:
        """Wait for it; for the runner, until the last output of two samples is written, so that it times the model."""
        deadline = time.monotonic() + 60
        while not self.running(program) or (
            program == "runner.py" and not list(self.tmp.glob("edge-export-*/output_1_0.npy"))
        ):
            assert time.monotonic() < deadline, f"no {program} at work on the device"
            time.sleep(0.05)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to every process of the daemon, and to nothing else on the device."""
        for pid in _family(self.holder.pid):
            if _said(pid, "comm").startswith(self.daemon):
                os.kill(pid, number)

    def end(self) -> None:
        """Nothing of the device is left."""
        for pid in {*_family(self.holder.pid), *self._sessions(), *self._sessions("CLIENT"), self.holder.pid}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.holder.wait()

    def _left(self) -> list[str]:
        return sorted(path.name for path in self.tmp.iterdir()) + [
            name for name in ("runner.py", "--graph") if self.running(name)
        ]

    def _sessions(self, side: str = "DOUBLE") -> list[int]:
        mark = f"{side}={self.folder}"
        return [pid for pid in _processes() if mark in _said(pid, "environ").split("\0")]


def started(double: Double, ready: Callable[[], bool]) -> Double:
    """Once the daemon answers."""
    deadline = time.monotonic() + 20
    while not ready():
        if time.monotonic() > deadline:
            double.end()
            pytest.fail(f"{double.daemon} does not start: {(double.folder / 'log').read_text()}")
        time.sleep(0.05)
    return double


def hold(folder: Path, command: list[str]) -> subprocess.Popen[bytes]:
    """Start a device's holder."""
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log, stdout=log)


def furnish(folder: Path) -> None:
    """The folders of a double, and a `client` for what leads this process's PATH."""
    for name in ("bin", "tmp", "site", "client"):
        (folder / name).mkdir()


def found(name: str) -> str:
    """A program of this machine, or an unpacked one."""
    unpacked = [
        str(DOUBLES / folder) for folder in ("usr/lib/android-sdk/platform-tools", "bin", "usr/bin", "usr/sbin")
    ]
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", *unpacked])
    program = shutil.which(name, path=path)
    if not program:
        pytest.skip(f"no {name} on this machine: tests/devices/fetch.sh FOLDER, then EDGE_EXPORT_DOUBLES=FOLDER")
    return program


def namespace(*kinds: str) -> list[str]:
    """`unshare` for those kinds; skips where this machine has none to give."""
    command = ["unshare", *(f"--{kind}" for kind in kinds), *(() if ROOT else ("--user", "--map-root-user"))]
    if subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
        pytest.skip(f"this machine gives no {' and '.join(kinds)} namespace")
    return command


def libraries() -> str:
    """Those of unpacked programs lie beside them."""
    folders = [*DOUBLES.glob("usr/lib/*-linux-gnu"), *DOUBLES.glob("usr/lib/*-linux-gnu/android")]
    return "LD_LIBRARY_PATH=" + os.pathsep.join(map(str, folders))


def _family(pid: int) -> list[int]:
    """All that descend from a process."""
    parents = {child: _said(child, "stat").rpartition(")")[2].split()[1:2] for child in _processes()}
    family, todo = [], [pid]
    while todo:
        parent = str(todo.pop())
        following = [child for child, words in parents.items() if words == [parent]]
        family += following
        todo += following
    return family


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def _said(pid: int, name: str) -> str:
    """A file of /proc; empty when the process has ended."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except OSError:
        return ""
