"""`edge-export setup`: what stands in the cache."""

from __future__ import annotations

import json

from rich.console import Console

from exporter.report import figures
from exporter.report.parts import Fact
from exporter.report.sheet import Verdict, print_sheet
from exporter.verify.devices.arm64 import Setup, home
from exporter.verify.devices.arm64.cores import CORES
from exporter.verify.devices.arm64.place import size


def print_setup(setup: Setup, console: Console) -> None:
    """Emulator, runtimes, whether it counts, the folder and its size."""
    facts = (
        Fact("emulator", setup.emulator),
        Fact("runtimes", runtimes(setup)),
        Fact("counting", setup.not_counting or "instructions and bytes"),
        Fact("folder", f"{home()}, {figures.megabytes(size(home()))} MB"),
    )
    names = ", ".join(f"arm64:{name}" for name in CORES)
    print_sheet(console, "", facts, Verdict(None, f"ready, imports seen on aarch64: {names}"))


def setup_json(setup: Setup) -> str:
    """All of it, with the sha256 of every file that was fetched."""
    content = {"folder": str(home()), "size": size(home()), **setup.model_dump()}
    return json.dumps(content, indent=1) + "\n"


def runtimes(setup: Setup) -> str:
    """`ai-edge-litert 2.3.0, …`."""
    return ", ".join(f"{name} {number}" for name, number in setup.runtimes.items())
