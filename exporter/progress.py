"""What a run shows while it works: one line a stage with its time, a bar with the time left on long ones."""

from __future__ import annotations

import ctypes
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

STAGES = ("build", "capture", "simplify", "quantize", "lower", "verify", "report")
Stage = Literal["build", "capture", "simplify", "quantize", "lower", "verify", "report"]


class StageTime(BaseModel):
    """Wall and CPU seconds of one stage, and the process's peak memory in MB (10^6 bytes) when it ended."""

    model_config = ConfigDict(frozen=True)

    stage: str
    wall_s: float
    cpu_s: float
    peak_mb: float


class Stages:
    """Times the stages of one run and shows them on `console` (None: silently)."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console
        self.times: list[StageTime] = []
        self._bar: Progress | None = None
        self._loop: TaskID | None = None
        self._download: TaskID | None = None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Everything inside counts as `name`: a stage of an export, or a step of another long command."""
        wall, cpu = time.perf_counter(), time.process_time()
        with self._bars(name):
            yield
        _give_memory_back()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        self.times.append(StageTime(stage=name, wall_s=wall, cpu_s=cpu, peak_mb=peak_memory_mb()))
        self.say(f"{name:<9} {wall:6.1f} s")

    def say(self, text: str) -> None:
        """One line to the console."""
        if self.console:
            self.console.print(text, highlight=False, markup=False)

    @contextmanager
    def steps(self, label: str, total: int) -> Iterator[None]:
        """A bar for a loop of `total` steps inside a stage; call `advance` for each."""
        self._loop = self._bar.add_task(label, total=total) if self._bar else None
        yield
        if self._bar and self._loop is not None:
            self._bar.remove_task(self._loop)

    def advance(self, done: int) -> None:
        """The current loop has finished `done` steps."""
        if self._bar and self._loop is not None:
            self._bar.update(self._loop, completed=done)

    def download(self, done: int, total: int | None) -> None:
        """Bytes that have come of a file, and how many there are where the server says so."""
        if self._bar is None:
            return
        if self._download is None:
            self._download = self._bar.add_task("download", total=total)
        self._bar.update(self._download, completed=done)

    @contextmanager
    def _bars(self, stage: str) -> Iterator[None]:
        if self.console is None or not self.console.is_terminal:
            yield
            return
        columns = (TextColumn("{task.description:<11}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self.console, transient=True) as self._bar:
            self._bar.add_task(stage, total=None)
            yield
        self._bar = self._download = None


def _give_memory_back() -> None:
    """Return what a stage has freed: glibc keeps it for each thread, and the next stage would come on top."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def peak_memory_mb() -> float:
    """Peak resident memory of this process in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
