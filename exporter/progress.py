"""What a run shows while it works: one line a stage with its time, a bar with the time left on long ones."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

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

    @contextmanager
    def stage(self, name: Stage) -> Iterator[None]:
        """Everything inside counts as `name`; a stage entered twice is added up."""
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            with self._bars():
                yield
        finally:
            spent = StageTime(
                stage=name,
                wall_s=time.perf_counter() - wall,
                cpu_s=time.process_time() - cpu,
                peak_mb=peak_memory_mb(),
            )
            self._add(spent)
        self.say(f"[bold]{name:<9}[/] {spent.wall_s:6.1f} s")

    def say(self, text: str) -> None:
        """One line to the console."""
        if self.console:
            self.console.print(text, highlight=False)

    @contextmanager
    def steps(self, label: str, total: int) -> Iterator[Progress | None]:
        """A bar for a loop of `total` steps inside a stage; call `advance` for each."""
        task = self._bar.add_task(label, total=total) if self._bar else None
        yield self._bar
        if self._bar and task is not None:
            self._bar.remove_task(task)

    def advance(self, done: int) -> None:
        """The current loop has finished `done` steps."""
        if self._bar and self._bar.task_ids:
            self._bar.update(self._bar.task_ids[-1], completed=done)

    @contextmanager
    def _bars(self) -> Iterator[None]:
        if self.console is None or not self.console.is_terminal or self._bar is not None:
            yield
            return
        columns = (TextColumn("  {task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self.console, transient=True) as self._bar:
            yield
        self._bar = None

    def _add(self, spent: StageTime) -> None:
        for index, known in enumerate(self.times):
            if known.stage == spent.stage:
                self.times[index] = StageTime(
                    stage=spent.stage,
                    wall_s=known.wall_s + spent.wall_s,
                    cpu_s=known.cpu_s + spent.cpu_s,
                    peak_mb=spent.peak_mb,
                )
                return
        self.times.append(spent)


def peak_memory_mb() -> float:
    """Peak resident memory of this process in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
