"""The counting plugin (count.c): built by the machine's C compiler, its lines read back."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from exporter.errors import UnsupportedError
from exporter.verify.devices.arm64.emulator import emulated, environment
from exporter.verify.devices.arm64.place import COMMAND, PLUGIN
from exporter.verify.devices.runner import MARKER, START, STOP

SOURCE = Path(__file__).with_name("count.c")
INTERFACE = "7.2"
"""Version of the emulator whose plugin interface the source declares; from 9 on it is another one."""


class NotBuilt(Exception):
    """Why there is no plugin. Everything but counting works without."""


@dataclass(frozen=True)
class Sums:
    """Since the program began."""

    instructions: int
    loaded: int
    stored: int

    def __sub__(self, other: Sums) -> Sums:
        return Sums(self.instructions - other.instructions, self.loaded - other.loaded, self.stored - other.stored)

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.instructions + other.instructions, self.loaded + other.loaded, self.stored + other.stored)


@dataclass(frozen=True)
class Call:
    """A system call inside the region: its number on aarch64, and the sums when it came."""

    number: int
    sums: Sums


@dataclass(frozen=True)
class Region:
    """What ran between the marks."""

    sums: Sums
    calls: tuple[Call, ...]


def build(emulator: str, folder: Path) -> None:
    """Compile into `folder`. Raises NotBuilt."""
    if not emulator.rsplit(maxsplit=1)[-1].startswith(f"{INTERFACE}."):
        raise NotBuilt(f"written for the plugin interface of QEMU {INTERFACE}, and this is {emulator}")
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise NotBuilt(f"gcc is not installed: apt install gcc, then {COMMAND}")
    # Without the C library: the emulator brings its own, which may be older than the one here.
    options = ["-O2", "-shared", "-fPIC", "-nostdlib", "-fno-builtin", "-fno-stack-protector"]
    command = [compiler, *options, "-o", str(folder / "count.so"), str(SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise NotBuilt(f"{compiler} cannot build the plugin: {(lines or ['no word why'])[-1]}")


def try_out(home: Path, core: str, folder: Path) -> None:
    """Count a few instructions of Python. Raises NotBuilt."""
    out = folder / "counted.txt"
    marks = f"import ctypes; [ctypes.CDLL(None).getpriority({MARKER}, edge) for edge in ({START}, {STOP})]"
    command = emulated(home, core, "-S", "-c", marks, plugin=f"{home / PLUGIN},out={out}")
    done = subprocess.run(command, env=environment(home, ""), capture_output=True, text=True, check=False)
    if done.returncode or not read_region(out.read_text().splitlines()).sums.instructions:
        lines = done.stderr.strip().splitlines()
        raise NotBuilt(f"the emulator does not take the plugin: {(lines or [f'exit code {done.returncode}'])[-1]}")


def read_region(lines: Iterable[str]) -> Region:
    """The plugin's file -> its one region. Raises UnsupportedError where a mark is missing."""
    words = [line.split() for line in lines]
    told = [(kind, int(number), Sums(*map(int, sums[:3]))) for kind, number, *sums in words]
    begin = [sums for kind, number, sums in told if (kind, number) == ("mark", START)]
    end = [sums for kind, number, sums in told if (kind, number) == ("mark", STOP)]
    if len(begin) != 1 or len(end) != 1:
        raise UnsupportedError(
            "the counting plugin saw no inference", why=f"{len(begin)} marks at its start, {len(end)} at its end"
        )
    calls = tuple(Call(number, sums) for kind, number, sums in told if kind == "call")
    return Region(end[0] - begin[0], calls)
