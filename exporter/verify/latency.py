"""Latency of a file on a runtime, as a row of the report."""

from __future__ import annotations

from exporter.verify.files import Arrays, Runtime
from exporter.verify.results import LatencyRow

SECONDS, FEWEST_RUNS, MOST_RUNS = 1.0, 5, 50
"""As many runs as fit into about a second, within these bounds."""


def measure_latency(file: str, runtime: Runtime, inputs: Arrays) -> LatencyRow:
    """Wall milliseconds of one inference of `file` (a name for the row), after one that warms up."""
    first = runtime.latency(inputs, runs=1, warmup=1).median_ms / 1e3
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
