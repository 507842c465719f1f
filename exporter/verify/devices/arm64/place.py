"""What `edge-export setup arm64` leaves in the cache, and where."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from exporter.build.download import cache_folder
from exporter.errors import RuntimeUnavailable

COMMAND = "edge-export setup arm64"
EMULATOR, USERLAND, CORES, SITES, PLUGIN = "emulator", "userland", "cores", "site", "counting/count.so"
"""Folders of `home()`; SITES has one of Python packages for each runtime, CORES one prefix for each core."""
RECORD = "setup.json"


class Package(BaseModel):
    """A file that was downloaded, and checked by the client that did it."""

    model_config = ConfigDict(frozen=True)

    name: str
    size: int
    sha256: str


class Setup(BaseModel):
    """A finished setup. It is written last, so what is named here has run."""

    model_config = ConfigDict(frozen=True)

    emulator: str
    """`qemu-aarch64 7.2.22`."""
    runtimes: dict[str, str]
    """Version of each package that runs models: ai-edge-litert, onnxruntime, tflite-runtime."""
    not_counting: str = ""
    """Why instructions cannot be counted; empty where they can."""
    packages: tuple[Package, ...] = ()


def home() -> Path:
    """The folder in the cache."""
    return cache_folder() / "arm64"


def read_setup() -> Setup:
    """The record of what is there. Raises RuntimeUnavailable when nothing is, or nothing that this version can use."""
    try:
        return Setup.model_validate_json((home() / RECORD).read_text())
    except FileNotFoundError as error:
        raise RuntimeUnavailable("the arm64 emulator is not set up", why=f"{home()} is empty", try_=COMMAND) from error
    except (OSError, ValidationError) as error:
        why = str(error).splitlines()[0]
        raise RuntimeUnavailable(f"{home() / RECORD} cannot be read", why=why, try_=COMMAND) from error


def write_setup(setup: Setup | None) -> None:
    """Replace the record; None while the folder is being changed."""
    record = home() / RECORD
    if setup is None:
        record.unlink(missing_ok=True)
        return
    part = record.with_suffix(".part")
    part.write_text(setup.model_dump_json(indent=1))
    part.replace(record)


def made(folder: Path, source: str) -> bool:
    """Whether `folder` is whole and made of `source`."""
    stamp = _stamp(folder)
    return folder.is_dir() and stamp.is_file() and stamp.read_text() == source


def make(folder: Path, source: str, fill: Callable[[Path], None]) -> None:
    """Have `folder` filled, unless it is made of `source` already. It appears whole, or not at all."""
    if made(folder, source):
        return
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    fill(part)
    _stamp(folder).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    _stamp(folder).write_text(source)


def size(folder: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(os.lstat(os.path.join(place, name)).st_size for place, _, files in os.walk(folder) for name in files)


def _stamp(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.made")
