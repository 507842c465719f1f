"""A small job for devices that are reached over a wire, and what may happen while it runs."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from devices.double import Double
from verify.small_tflite import SHAPE, int8_conv

from exporter.errors import RuntimeUnavailable
from exporter.verify.devices import Job, device, run_job
from exporter.verify.devices.arm64.emulator import emulated, environment
from exporter.verify.devices.arm64.place import home
from exporter.verify.devices.arm64.wheels import LITERT

ENDLESS = 10_000_000
"""Timed runs that no test waits for."""


def copy_job(folder: Path) -> Job:
    """A network that gives `copy` the codes of `image`: two samples, five timed runs."""
    model = folder / "copy.tflite"
    model.write_bytes(int8_conv())
    codes = np.random.default_rng(0).integers(-128, 128, (2, *SHAPE)).astype(np.int8)
    return Job(model, [{"image": sample} for sample in codes], runs=5)


def emulate(double: Double, core: str) -> None:
    """Its Python becomes that of the aarch64 userland, on an emulated core."""
    variables = [f"{key}={value}" for key, value in environment(home(), LITERT).items()]
    double.program("python3", f'exec env -i {shlex.join([*variables, *emulated(home(), core)])} "$@"')


def refused(name: str, job: Job) -> RuntimeUnavailable:
    """The error, of exit code 7."""
    with pytest.raises(RuntimeUnavailable) as raised:
        run_job(device(name), job)
    assert raised.value.exit_code == 7
    return raised.value


def while_at_work(double: Double, act: Callable[[], None], program: str = "runner.py") -> threading.Thread:
    """Do something once a program is at work there."""

    def run() -> None:
        double.at_work(program)
        act()

    thread = threading.Thread(target=run)
    thread.start()
    return thread
