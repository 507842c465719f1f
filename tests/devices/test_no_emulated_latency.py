"""Emulated time is no latency: no row can hold it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from exporter.errors import RuntimeUnavailable
from exporter.verify.devices.facts import EmulatedDevice, Latency, RealDevice
from exporter.verify.runtimes import timing

EMULATED = EmulatedDevice(name="arm64", machine="aarch64", processor="Cortex-A76", emulator="qemu-aarch64 7.2")
REAL = RealDevice(name="local", machine="x86_64", processor="AMD EPYC")
MISUSE = """
from exporter.verify.devices.facts import EmulatedDevice, Latency, RealDevice
def right(device: RealDevice) -> Latency:
    return Latency.of(device, 1, [1.0])
def wrong(device: EmulatedDevice) -> Latency:
    return Latency.of(device, 1, [1.0])
"""


@pytest.mark.parametrize("device", [EMULATED, EMULATED.model_dump()], ids=["typed", "from JSON"])
def test_a_latency_of_an_emulated_device_cannot_be_made(device):
    with pytest.raises(ValidationError, match="device"):
        Latency.of(device, 1, [1.0, 2.0])


def test_a_latency_of_a_real_device_has_its_quantiles():
    row = Latency.of(REAL, 2, [float(i) for i in range(1, 12)], [50.0])
    assert (row.median_ms, row.p90_ms, row.min_ms, row.runs, row.warmup_ms) == (6.0, 10.0, 1.0, 11, (50.0,))
    assert Latency.model_validate_json(row.model_dump_json()) == row


def test_nothing_is_timed_in_a_process_that_is_emulated(monkeypatch):
    monkeypatch.setattr(timing, "this_machine", lambda: EMULATED)
    with pytest.raises(RuntimeUnavailable, match="emulated"):
        timing.measure(lambda: pytest.fail("it ran"), runs=1, warmup=0, threads=1)


@pytest.mark.slow
def test_the_type_checker_refuses_it(tmp_path):
    path = tmp_path / "misuse.py"
    path.write_text(MISUSE)
    done = subprocess.run([sys.executable, "-m", "mypy", path], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    (error,) = (line for line in done.stdout.splitlines() if ": error:" in line)
    assert "misuse.py:6: error:" in error
    assert 'has incompatible type "EmulatedDevice"; expected "RealDevice"' in error
