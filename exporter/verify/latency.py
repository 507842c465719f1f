"""Latency of a file on a runtime, as a row of the report."""

from __future__ import annotations

from exporter.verify.files import Arrays, Runtime
from exporter.verify.results import LatencyRow

SECONDS, FEWEST_RUNS, MOST_RUNS = 0.5, 5, 50
"""As many runs as fit into about half a second, within these bounds: every format has two files to time."""


def measure_latency(file: str, runtime: Runtime, inputs: Arrays) -> LatencyRow:
    """Wall milliseconds of one inference of `file` (a name for the row), after one that warms up."""
    first = runtime.latency(inputs, runs=1, warmup=0).median_ms / 1e3
    timed = runtime.latency(inputs, runs=max(FEWEST_RUNS, min(MOST_RUNS, int(SECONDS / first))), warmup=0)
    return LatencyRow(
        file=file,
        device=timed.processor,
        threads=timed.threads,
        median_ms=timed.median_ms,
        p90_ms=timed.p90_ms,
        min_ms=timed.min_ms,
        runs=timed.runs,
    )
