"""`adb[:SERIAL]`: an Android device, through this system's own adb.

Always told which device is meant. Android has no Python of its own: where none was put there, LiteRT's benchmark_model
takes its place.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from exporter.errors import RuntimeUnavailable, UsageError
from exporter.verify.devices.android import AndroidWorkspace
from exporter.verify.devices.benchmark_model import BenchmarkWorkspace
from exporter.verify.devices.protocol import Completed
from exporter.verify.devices.shell import Options, call, find_python, last_line, workspace

PYTHONS = ("python3", "/data/local/tmp/python/bin/python3", "/data/data/com.termux/files/usr/bin/python3")
TRY = {  # what adb says -> what helps
    "unauthorized": "unlock the device and allow USB debugging from this computer",
    "offline": "adb reconnect offline, or plug it in again",
    "no permissions": "apt install android-sdk-platform-tools-common, which has the udev rules",
    "not found": "adb devices -l",
    "PTY args": "Android 7 or newer, whose adbd tells exit codes",
}
ATTACH = "plug in a device with USB debugging on, or adb connect HOST:PORT; adb devices -l lists what is attached"


@dataclass
class AdbDevice:
    """A device with a serial number as `adb devices` lists it; the only one where none is given."""

    name: str
    serial: str = ""
    options: Options = field(default_factory=Options)
    emulator, can_count = "", False

    @contextmanager
    def workspace(self) -> Iterator[AndroidWorkspace]:
        """A folder in /data/local/tmp there."""
        if not shutil.which("adb"):
            raise RuntimeUnavailable("there is no adb on this machine", try_="apt install adb")
        cable = _Cable(self.name, self.serial or self._only_one())
        with workspace(cable, self.options) as there:
            if self.options.benchmark_model:
                yield BenchmarkWorkspace(**vars(there))
            elif interpreter := find_python(there):
                yield AndroidWorkspace(**{**vars(there), "interpreter": interpreter})
            else:
                raise RuntimeUnavailable(
                    f"there is no Python on {self.name}, nor a benchmark_model",
                    where=PYTHONS,
                    try_=[
                        f"--on 'adb:{cable.serial}?benchmark_model=FILE': LiteRT's, built for the device",
                        "a Python there, with numpy and ai-edge-litert; ?python=PATH names it",
                    ],
                )

    def _only_one(self) -> str:
        rows = [line.split(maxsplit=1) for line in call(["adb", "devices", "-l"]).out.splitlines()[1:]]
        listed = [" ".join(row) for row in rows if len(row) == 2 and row[0] != "*"]
        if not listed:
            raise RuntimeUnavailable("no Android device is attached", try_=ATTACH)
        if len(listed) > 1:
            raise UsageError(
                f"{len(listed)} devices are attached", where=listed, try_=f"--on adb:{listed[0].split()[0]}"
            )
        return listed[0].split()[0]


@dataclass(frozen=True)
class _Cable:
    """adb's connection to one device."""

    name: str
    serial: str
    parent, pythons = "/data/local/tmp", PYTHONS

    def shell(self, command: str, *, keeper: bool = False) -> list[str]:
        """Without a terminal, so that bytes pass as they are and the exit code comes back."""
        return ["adb", "-s", self.serial, "shell", "-T", command]

    def push(self, source: Path, folder: str) -> Completed:
        """By adb's own transfer."""
        return call(["adb", "-s", self.serial, "push", str(source), f"{folder}/"])

    def pull(self, path: str, place: Path) -> Completed:
        """As `push`."""
        return call(["adb", "-s", self.serial, "pull", path, str(place)])

    def broken(self, what: str, complaint: str) -> RuntimeUnavailable:
        """With what helps against the commonest complaints of adb."""
        steps = [step for said, step in TRY.items() if said in complaint]
        return RuntimeUnavailable(
            what,
            why=last_line(complaint) or "adb did not say",
            try_=steps or f"adb -s {shlex.quote(self.serial)} shell",
        )
