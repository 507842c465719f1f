"""What a device says about itself, and what may be measured on it.

A latency is of a real device and a count of an emulated one: the types hold them apart, so that emulated time cannot
be printed as latency.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True)


class _Device(_Row):
    """`name` is as asked for on the command line; `processor` names cores and the vector extensions that matter."""

    name: str
    machine: str
    """x86_64, aarch64, …"""
    processor: str
    system: str = ""
    """Operating system with version."""


class RealDevice(_Device):
    """A processor of silicon. `cores` are those that the runner may use."""

    kind: Literal["real"] = "real"
    cores: tuple[int, ...] = ()
    governor: str = ""
    """Of the CPU frequency; empty where it cannot be read."""
    celsius: float | None = None
    """The hottest thermal zone after the run."""
    throttling: str = ""
    """Android's thermal status after the run: none, light, …; empty elsewhere."""


class EmulatedDevice(_Device):
    """A processor in software: its results count, its time says nothing."""

    kind: Literal["emulated"] = "emulated"
    emulator: str


DeviceFacts = Annotated[RealDevice | EmulatedDevice, Field(discriminator="kind")]


class Latency(_Row):
    """Wall milliseconds of one inference over `runs`, after `warmups` that stand apart."""

    device: RealDevice
    threads: int
    median_ms: float
    min_ms: float
    runs: int
    p90_ms: float | None = None
    """None where the tool that timed tells none."""
    warmup_ms: tuple[float, ...] = ()

    @classmethod
    def of(cls, device: RealDevice, threads: int, milliseconds: Sequence[float], warmups: Sequence[float] = ()) -> Self:
        """From the times of single inferences; `threads` 0 where the runtime chooses them."""
        median, p90 = np.percentile(milliseconds, [50, 90])
        return cls(
            device=device,
            threads=threads,
            median_ms=float(median),
            p90_ms=float(p90),
            min_ms=min(milliseconds),
            runs=len(milliseconds),
            warmup_ms=tuple(warmups),
        )


class OpCount(_Row):
    """One operator of the file: what one run of it took."""

    op: str
    name: str
    """Of its first output."""
    instructions: int
    loaded_bytes: int = 0
    stored_bytes: int = 0


class Counts(_Row):
    """Instructions and bytes of one inference, single-threaded: a proxy of cost, never a latency."""

    device: EmulatedDevice
    instructions: int
    loaded_bytes: int
    stored_bytes: int
    ops: tuple[OpCount, ...] = ()
    """In the order in which they ran; empty where the runtime does not tell them apart."""
