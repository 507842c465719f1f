"""The genuine aarch64 builds of the runtimes: this machine's pip fetches and checks them for another machine."""

from __future__ import annotations

import importlib.util
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from exporter.errors import RuntimeUnavailable
from exporter.progress import Stages
from exporter.verify.devices.arm64.clients import client

LITERT, OLDEST, ONNX = "ai-edge-litert", "tflite-runtime", "onnxruntime"
_WITHOUT_HOST = {LITERT: "2.3.0", ONNX: "1.32.0"}
"""Versions where this machine has none to be equal to."""
_GLIBC = ("2_34", "2_31", "2_28", "2_27", "2_26", "2_24", "2_17")
"""pip takes a wheel only for a platform that is listed; the userland has 2.36."""


def sites() -> dict[str, list[str]]:
    """Requirements of each site folder, named for its LiteRT; tflite-runtime cannot live with numpy 2."""
    return {
        LITERT: [f"{LITERT}=={_as_here(LITERT)}", f"{ONNX}=={_as_here(ONNX)}", "numpy==2.2.6"],
        OLDEST: [f"{OLDEST}==2.14.0", "numpy==1.26.4"],
    }


def fetch_wheels(requirements: list[str], folder: Path, stages: Stages) -> list[Path]:
    """Download them, unless they are there already. -> the .whl files."""
    _pip(
        ["download", "--dest", str(folder), *_progress(), *requirements],
        folder,
        stages,
        f"pip cannot download {' and '.join(requirements)} for aarch64",
    )
    names = [requirement.replace("-", "_").replace("==", "-") for requirement in requirements]
    return sorted(path for path in folder.glob("*.whl") if path.name.startswith(tuple(f"{name}-" for name in names)))


def unpack_wheels(wheels: list[Path], stages: Stages, folder: Path) -> None:
    """Install into a folder."""
    options = ["install", "--no-index", "--no-compile", "--target", str(folder)]
    _pip([*options, *map(str, wheels)], wheels[0].parent, stages, f"pip cannot unpack into {folder}")


def _pip(arguments: list[str], folder: Path, stages: Stages, what: str) -> None:
    if importlib.util.find_spec("pip") is None:
        raise RuntimeUnavailable("this Python has no pip", try_=f"{sys.executable} -m ensurepip")
    scratch = folder / "pip"
    scratch.mkdir(parents=True, exist_ok=True)
    platforms = [f"manylinux_{number}_aarch64" for number in _GLIBC] + ["manylinux2014_aarch64"]
    client(
        [
            *(sys.executable, "-m", "pip", "--no-input", "--retries=2", arguments[0]),
            *("--no-deps", "--only-binary=:all:", "--python-version=3.11", "--implementation=cp"),
            *("--abi=cp311", "--abi=abi3", "--abi=none", *(f"--platform={name}" for name in platforms)),
            *arguments[1:],
        ],
        # pip keeps what it has fetched in its cache, and writes its temporary files, where we tell it to
        {"PIP_CACHE_DIR": str(scratch), "TMPDIR": str(scratch), "PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        stages=stages,
        progress=r"Progress (\d+) of (\d+)",
        what=what,
    )


def _progress() -> list[str]:
    """From 24.1 on pip can tell a program how far it is."""
    known = tuple(int(part) for part in version("pip").split(".")[:2]) >= (24, 1)
    return ["--progress-bar=raw" if known else "--progress-bar=off"]


def _as_here(package: str) -> str:
    """Two versions round differently, so both sides run the same."""
    try:
        return version(package)
    except PackageNotFoundError:
        return _WITHOUT_HOST[package]
