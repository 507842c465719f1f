"""`edge-export doctor`: what works on this machine, and the line that gets the rest.

Nothing is imported before it is looked at, so that a broken installation is described and not met.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict
from rich.console import Console

from exporter.errors import RuntimeUnavailable
from exporter.report import figures
from exporter.report.parts import Column, Table
from exporter.report.sheet import print_sheet

State = Literal["ready", "absent", "broken"]
SPARE_BYTES = 2e9
"""What the largest model's files and scratch copies need, with room."""


class Finding(BaseModel):
    """One line. `needed`: the main command cannot run without it. `remedy` is a command, or empty."""

    model_config = ConfigDict(frozen=True)

    what: str
    state: State
    detail: str
    remedy: str = ""
    needed: bool = False


def doctor() -> list[Finding]:
    """Every check, in the order in which the main command would meet what it checks."""
    checks: list[Callable[[], Finding]] = [
        _torch,
        _litert,
        _profiler,
        _onnx,
        _onnxsim,
        _onnxruntime,
        _coremltools,
        _core_ml,
        _pycocotools,
        _tensorflow,
        _arm64,
        _processor,
        _pictures,
        _recipes,
        _cache,
        _disk,
    ]
    return list(_found(checks))


def print_doctor(findings: list[Finding], console: Console) -> None:
    """The table; what is absent has the line that gets it."""
    columns = tuple(Column(title, numeric=False) for title in ("", "state", ""))
    rows = tuple((finding.what, finding.state, _detail(finding)) for finding in findings)
    print_sheet(console, "", Table("Doctor", columns, rows))


def raise_on_failure(findings: list[Finding]) -> None:
    """RuntimeUnavailable when something that every export needs is not ready."""
    wrong = [finding for finding in findings if finding.needed and finding.state != "ready"]
    if wrong:
        raise RuntimeUnavailable(
            f"{' and '.join(f.what for f in wrong)} not ready",
            where=[f"{f.what}  {f.detail}" for f in wrong],
            try_=[f.remedy for f in wrong],
        )


def _found(checks: list[Callable[[], Finding]]) -> Iterator[Finding]:
    for check in checks:
        try:
            yield check()
        except Exception as error:  # a diagnosis goes on where the machine does not
            name = check.__name__.strip("_")
            yield Finding(what=name, state="broken", detail=f"{type(error).__name__}: {error}".splitlines()[0])


# --- what every export needs ------------------------------------------------------------------------------------------
def _torch() -> Finding:
    remedy = "pip install 'torch>=2.9,<2.14'"
    try:
        torch = importlib.import_module("torch")
        threads = torch.get_num_threads()
    except Exception as error:
        return Finding(what="torch", state=_why(error), detail=_line(error), remedy=remedy, needed=True)
    detail = f"{torch.__version__}, {figures.plural(threads, 'thread')}"
    return Finding(what="torch", state="ready", detail=detail, needed=True)


def _litert() -> Finding:
    """Runs a one-op file of our own writing, with and without the delegate's kernels."""
    remedy = "pip install 'ai-edge-litert>=2.1'"
    try:
        importlib.import_module("ai_edge_litert.interpreter")
    except Exception as error:
        return Finding(what="LiteRT", state=_why(error), detail=_line(error), remedy=remedy, needed=True)
    found = f"ai-edge-litert {version('ai-edge-litert')}"
    try:
        delegated = _delegates()
    except Exception as error:
        detail = f"{found} cannot run a file: {_line(error)}"
        return Finding(what="LiteRT", state="broken", detail=detail, remedy=remedy, needed=True)
    delegate = "XNNPACK delegate" if delegated else "without XNNPACK delegate: slow, and other rounding"
    return Finding(what="LiteRT", state="ready", detail=f"{found}, {delegate}", needed=True)


def _delegates() -> bool:
    """Whether XNNPACK takes the one op of a small file."""
    import tempfile

    from exporter.ir.graph import Graph
    from exporter.lower import target
    from exporter.lower.facts import Facts
    from exporter.verify.runtimes.litert import LiteRT

    graph = Graph("doctor")
    graph.set_outputs({"y": graph.emit("relu", [graph.add_input("x", (1, 8, 8, 8))])})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "doctor.tflite")
        target("tflite").write(graph, file, Facts("doctor"))
        return LiteRT(file).partitions().count == 1


def _profiler() -> Finding:
    from exporter.verify.runtimes.litert_profile import TRIED

    known = " or ".join(f"{prefix}x" for prefix in TRIED)
    try:
        found = version("ai-edge-litert")
    except PackageNotFoundError:
        return Finding(what="profiler", state="absent", detail=f"comes with ai-edge-litert {known}")
    if found.startswith(TRIED):
        return Finding(what="profiler", state="ready", detail=f"known for {known}")
    detail = f"known for ai-edge-litert {known}, not {found}: reports will lack time per op"
    return Finding(what="profiler", state="absent", detail=detail)


# --- optional formats and second opinions -----------------------------------------------------------------------------
def _optional(package: str, extra: str) -> Finding:
    """Present or not; importing TensorFlow just to see it takes seconds."""
    if importlib.util.find_spec(package) is None:
        return Finding(what=package, state="absent", detail="optional", remedy=f"pip install 'edge-export[{extra}]'")
    try:
        return Finding(what=package, state="ready", detail=version(package))
    except PackageNotFoundError:
        return Finding(what=package, state="ready", detail="of unknown version")


def _onnx() -> Finding:
    return _optional("onnx", "onnx")


def _onnxsim() -> Finding:
    return _optional("onnxsim", "onnx")


def _pycocotools() -> Finding:
    return _optional("pycocotools", "eval")


def _tensorflow() -> Finding:
    return _optional("tensorflow", "tensorflow")


def _onnxruntime() -> Finding:
    from exporter.verify.runtimes.onnxruntime import multiplies_in_16_bits

    found = _optional("onnxruntime", "onnx")
    if found.state != "ready" or not multiplies_in_16_bits():
        return found
    note = "int8 is verified without its optimiser, whose kernels saturate on a processor without VNNI"
    return found.model_copy(update={"detail": f"{found.detail}, {note}"})


def _coremltools() -> Finding:
    """Importing it takes seconds; whether its compiled parts are there is seen without."""
    found = _optional("coremltools", "coreml")
    spec = importlib.util.find_spec("coremltools") if found.state == "ready" else None
    if spec is None or any(Path(spec.origin or "").parent.glob("libmilstoragepython.*")):
        return found
    detail = f"{found.detail} without its compiled parts: its wheels are for Python up to 3.13"
    remedy = "python3.13 -m pip install 'edge-export[coreml]'"
    return Finding(what=found.what, state="broken", detail=detail, remedy=remedy)


def _core_ml() -> Finding:
    """The runtime, which belongs to the operating system."""
    if sys.platform == "darwin":
        return Finding(what="Core ML", state="ready", detail=f"of macOS {platform.mac_ver()[0]}")
    detail = "only macOS has it: here a reference executor runs packages, which is not Core ML"
    return Finding(what="Core ML", state="absent", detail=detail)


def _arm64() -> Finding:
    """The emulator; it is run only to say its version."""
    from exporter.verify.devices.arm64 import Arm64Device, home
    from exporter.verify.devices.arm64.emulator import version as emulator_version
    from exporter.verify.devices.arm64.place import COMMAND, RECORD, read_setup

    if not (home() / RECORD).exists():
        return Finding(what="arm64", state="absent", detail="emulated ARM cores, optional", remedy=COMMAND)
    try:
        setup = read_setup()
        with Arm64Device("arm64").workspace():
            found = emulator_version(home())
    except Exception as error:
        detail = getattr(error, "what", _line(error))
        return Finding(what="arm64", state="broken", detail=detail, remedy=COMMAND)
    runtimes = ", ".join(f"{name} {number}" for name, number in setup.runtimes.items())
    detail = f"{found}; {runtimes}; " + (setup.not_counting or "counts instructions")
    return Finding(what="arm64", state="ready", detail=detail)


# --- the machine ------------------------------------------------------------------------------------------------------
def _processor() -> Finding:
    from exporter.verify.processor import processor

    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Finding(what="processor", state="ready", detail=f"{processor()}, {figures.plural(count, 'core')} usable")


def _pictures() -> Finding:
    from exporter.quantize.data import default_samples_dir
    from exporter.quantize.pictures import PICTURES

    folder = default_samples_dir()
    count = sum(path.suffix in PICTURES for path in folder.iterdir())
    return Finding(what="pictures", state="ready", detail=f"{count} for calibration in {folder}")


def _recipes() -> Finding:
    from exporter.builtin import demo_models, recipe_names, recipes_dir

    names = recipe_names()
    state: State = "ready" if names else "absent"
    demo = ", ".join(demo_models()) or "none"
    return Finding(what="recipes", state=state, detail=f"{len(names)} in {recipes_dir()}; demo weights: {demo}")


def _cache() -> Finding:
    from exporter.build.download import cache_folder

    folder = cache_folder()
    if not _writable(folder):
        detail = f"{folder} cannot be written"
        return Finding(what="cache", state="broken", detail=detail, remedy="export EDGE_EXPORT_CACHE=FOLDER")
    files = [path for path in folder.glob("*") if path.is_file()]
    size = figures.megabytes(sum(path.stat().st_size for path in files)) if files else "0"
    detail = f"{folder}, {figures.plural(len(files), 'checkpoint')}, {size} MB"
    return Finding(what="cache", state="ready", detail=detail)


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    state: State = "ready" if free > SPARE_BYTES else "broken"
    return Finding(what="disk", state=state, detail=f"{free / 1e9:.1f} GB free in {Path.cwd()}")


def _writable(folder: Path) -> bool:
    """Whether files can be made in `folder`, or it in the nearest folder above that is there."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def _detail(finding: Finding) -> str:
    if finding.state == "ready" or not finding.remedy:
        return finding.detail
    return f"{finding.detail}: {finding.remedy}"


def _why(error: Exception) -> State:
    return "absent" if isinstance(error, ModuleNotFoundError) else "broken"


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
