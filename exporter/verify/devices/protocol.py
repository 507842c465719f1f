"""What a device must answer."""

from __future__ import annotations

import signal
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

SIGNALS = frozenset(signal.Signals)


@dataclass(frozen=True)
class Completed:
    """How a command ended on a device."""

    code: int
    """Of an ending by a signal: its number below zero, as Python tells it, or above 128, as shells do."""
    out: str
    err: str

    @property
    def ending(self) -> str:
        """`ended with 1`, `was ended by SIGSEGV`."""
        number = -self.code if self.code < 0 else self.code - 128
        return f"was ended by {signal.Signals(number).name}" if number in SIGNALS else f"ended with {self.code}"


class Workspace(Protocol):
    """A fresh folder on a device. Every method raises RuntimeUnavailable when the device is gone or full."""

    def push(self, source: Path) -> None:
        """Copy a file into the folder, under its own name."""
        ...

    def python(self, script: str, *arguments: str, counted: bool = False) -> Completed:
        """Run a script of the folder with the device's Python, in the folder, to its end; any exit code is returned.

        `counted`: under the counting plugin, on emulated devices alone.
        """
        ...

    def pull(self, name: str, place: Path) -> None:
        """Copy a file of the folder to a local folder. Raises RuntimeUnavailable where there is none."""
        ...

    def facts(self) -> dict[str, Any]:
        """What the device says about itself, over what the runner finds (its keys); asked for after the run."""
        ...


class Device(Protocol):
    """A place where files are run. `name` is as the user wrote it, without paths."""

    @property
    def name(self) -> str: ...

    @property
    def emulator(self) -> str:
        """What emulates its processor, with version; empty for real ones, and where only the runner can tell."""
        ...

    @property
    def can_count(self) -> bool:
        """Whether instructions and bytes can be counted."""
        ...

    def workspace(self) -> AbstractContextManager[Workspace]:
        """A folder that is gone from the device when the block ends, however it ends."""
        ...
