"""How often a file is run to time it."""

from __future__ import annotations

from exporter.verify.devices.facts import EmulatedDevice, Latency
from exporter.verify.devices.session import this_machine
from exporter.verify.files import Arrays, Runtime

SECONDS, FEWEST_RUNS, MOST_RUNS = 0.5, 3, 50
"""As many runs as fit into about half a second, within these bounds: every format has two files to time."""


def measure_latency(runtime: Runtime, inputs: Arrays) -> Latency | None:
    """One inference of a loaded file, after one that warms up. None where this processor is emulated."""
    if isinstance(this_machine(), EmulatedDevice):
        return None
    first = runtime.latency(inputs, runs=1, warmup=0).median_ms / 1e3
    return runtime.latency(inputs, runs=max(FEWEST_RUNS, min(MOST_RUNS, int(SECONDS / first))), warmup=0)
