"""The command line that runs a Python program on an emulated core."""

from __future__ import annotations

import subprocess
from pathlib import Path

from exporter.verify.devices.arm64.cores import CORES
from exporter.verify.devices.arm64.packages import QEMU
from exporter.verify.devices.arm64.place import CORES as PREFIXES
from exporter.verify.devices.arm64.place import EMULATOR, SITES, USERLAND

PYTHON = "usr/bin/python3.11"


def program(home: Path) -> list[str]:
    """The emulator, started by its own loader with its own libraries: the host's may be older."""
    folder = home / EMULATOR
    libraries = (folder / "lib/x86_64-linux-gnu", folder / "usr/lib/x86_64-linux-gnu")
    loader = folder / "lib64/ld-linux-x86-64.so.2"
    return [str(loader), "--library-path", ":".join(map(str, libraries)), str(folder / QEMU)]


def emulated(home: Path, core: str, *arguments: str, plugin: str = "") -> list[str]:
    """Python with `arguments` on a core; its random numbers are always the same. `plugin`: a file with its options."""
    return [
        *program(home),
        *("-L", str(home / PREFIXES / core), "-cpu", CORES[core].cpu, "-seed", "1"),
        *(("-plugin", plugin) if plugin else ()),
        *(str(home / USERLAND / PYTHON), *arguments),
    ]


def environment(home: Path, runtime: str) -> dict[str, str]:
    """All that the program sees of it: the host's variables (LD_LIBRARY_PATH above all) are meant for the host."""
    return {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(home / SITES / runtime),
        "PYTHONNOUSERSITE": "1",
        "PYTHONHASHSEED": "0",
    }


def version(home: Path) -> str:
    """`qemu-aarch64 7.2.22`. Raises OSError when it cannot be started, CalledProcessError when it fails."""
    done = subprocess.run([*program(home), "--version"], capture_output=True, text=True, check=True)
    name, _, number = done.stdout.split()[:3]
    return f"{name} {number}"
