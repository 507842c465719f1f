"""This machine, through the same protocol as every other device."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporter.errors import RuntimeUnavailable
from exporter.verify.devices.protocol import Completed


@dataclass(frozen=True)
class LocalWorkspace:
    """A folder here."""

    folder: Path

    def push(self, source: Path) -> None:
        """Copy a file in."""
        try:
            shutil.copy(source, self.folder)
        except OSError as error:
            raise RuntimeUnavailable(f"cannot write to {self.folder}", why=error.strerror or str(error)) from error

    def python(self, script: str, *arguments: str, counted: bool = False) -> Completed:
        """In a process of its own."""
        done = subprocess.run(
            [sys.executable, script, *arguments], cwd=self.folder, capture_output=True, text=True, check=False
        )
        return Completed(done.returncode, done.stdout, done.stderr)

    def pull(self, name: str, place: Path) -> None:
        """Copy a file out."""
        try:
            shutil.copy(self.folder / name, place)
        except OSError as error:
            raise RuntimeUnavailable(f"the runner left no {name}", why=error.strerror or str(error)) from error

    def facts(self) -> dict[str, Any]:
        """Nothing that the runner cannot find."""
        return {}


class LocalDevice:
    """`local`."""

    name, emulator, can_count = "local", "", False

    @contextmanager
    def workspace(self) -> Iterator[LocalWorkspace]:
        """A temporary folder."""
        with tempfile.TemporaryDirectory(prefix="edge-export-") as folder:
            yield LocalWorkspace(Path(folder))
