"""Wall-clock latency of one call, on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable

from exporter.errors import RuntimeUnavailable, UsageError
from exporter.verify.devices import runner
from exporter.verify.devices.facts import EmulatedDevice, Latency
from exporter.verify.devices.session import this_machine


def measure(call: Callable[[], object], *, runs: int, warmup: int, threads: int) -> Latency:
    """Time `call` alone, `runs` times after `warmup` calls. Raises RuntimeUnavailable where this processor is emulated:
    its time says nothing.
    """
    if runs < 1 or warmup < 0:
        raise UsageError(f"cannot time {runs} runs after {warmup} warm-up runs", try_="runs >= 1 and warmup >= 0")
    here = this_machine()
    if isinstance(here, EmulatedDevice):
        raise RuntimeUnavailable("an emulated processor has no latency", why=here.emulator)
    milliseconds = [_timed(call) for _ in range(warmup + runs)]
    now = here.model_copy(update={"celsius": runner.celsius()})
    return Latency.of(now, threads, milliseconds[warmup:], milliseconds[:warmup])


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start) / 1e6
