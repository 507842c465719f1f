"""The emulated device."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from exporter.errors import RuntimeUnavailable, UsageError, nearest
from exporter.verify.devices.arm64.cores import CORES, DEFAULT
from exporter.verify.devices.arm64.emulator import emulated, environment
from exporter.verify.devices.arm64.place import COMMAND, PLUGIN, Setup, home, read_setup
from exporter.verify.devices.arm64.wheels import LITERT, sites
from exporter.verify.devices.local import LocalWorkspace
from exporter.verify.devices.protocol import Completed

COUNTED = "counted.txt"
"""What the plugin writes into a workspace."""


class Arm64Device:
    """`arm64[:CORE][@tflite-runtime]`: a core of `CORES`, with this machine's version of LiteRT or the oldest one.

    Raises UsageError for another name; everything else RuntimeUnavailable where the setup is absent.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        words, _, site = name.partition("@")
        kind, _, core = words.partition(":")
        self.core, self.site = core or DEFAULT, site or LITERT
        known = [f"{kind}:{word}" for word in CORES] + [f"{kind}@{word}" for word in sites()]
        if self.core not in CORES or self.site not in sites() or name.endswith((":", "@")):
            raise UsageError(f"no device is called {name!r}", why=nearest(name, known), try_=", ".join(known))

    @property
    def emulator(self) -> str:
        """Its name and version."""
        return self._setup.emulator

    @property
    def can_count(self) -> bool:
        """Whether the counting plugin is there."""
        return not self._setup.not_counting

    @property
    def why_not_counting(self) -> str:
        """Empty where it can."""
        return self._setup.not_counting

    @contextmanager
    def workspace(self) -> Iterator[EmulatedWorkspace]:
        """A temporary folder."""
        _ = self._setup
        with tempfile.TemporaryDirectory(prefix="edge-export-") as folder:
            yield EmulatedWorkspace(Path(folder), self)

    @cached_property
    def _setup(self) -> Setup:
        setup = read_setup()
        here = dict(need.split("==") for need in sites()[self.site])
        other = {name: number for name, number in setup.runtimes.items() if here.get(name, number) != number}
        if other:
            raise RuntimeUnavailable(
                "the arm64 emulator has other runtimes than this machine, and two versions round differently",
                where=[f"{name} {number}, here {here[name]}" for name, number in other.items()],
                try_=COMMAND,
            )
        return setup


@dataclass(frozen=True)
class EmulatedWorkspace(LocalWorkspace):
    """A folder here, whose Python is emulated."""

    device: Arm64Device

    def python(self, script: str, *arguments: str, counted: bool = False) -> Completed:
        """In a process that ends with this call, however it ends."""
        plugin = f"{home() / PLUGIN},out={self.folder / COUNTED}" if counted else ""
        command = emulated(home(), self.device.core, script, *arguments, plugin=plugin)
        try:
            done = subprocess.run(
                command,
                cwd=self.folder,
                env=environment(home(), self.device.site),
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError as error:
            raise RuntimeUnavailable(
                f"{self.device.name} cannot be started", why=f"{error.strerror}: {error.filename}", try_=COMMAND
            ) from error
        return Completed(done.returncode, done.stdout, done.stderr)
