"""LiteRT's own timer on a device without Python: `benchmark_model`, built for the device and supplied by the user.

It times a file on random inputs and keeps no outputs, so nothing is said of accuracy. What it prints is read from its
source (tflite/tools/benchmark/benchmark_model.cc and tflite's stats_calculator.h):

    INFO: Running benchmark for at least 20 iterations and at least 0 seconds but terminate if exceeding 150 seconds.
    INFO: count=20 first=31500 curr=30900 min=30718 max=36410 avg=31118 std=1323 p5=30718 median=31043 p95=36410
"""

from __future__ import annotations

import hashlib
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporter.errors import RuntimeUnavailable, UnsupportedError
from exporter.verify.devices.android import AndroidWorkspace
from exporter.verify.devices.protocol import Completed
from exporter.verify.devices.shell import cores, last_line

NO_OUTPUTS = "benchmark_model times a file and keeps no outputs; with Python on the device there would be some"
NOT_RUN = re.compile("not executable|Exec format error|not found")
"""What shells and taskset say of another processor's program, or of one whose loader is missing."""


@dataclass(frozen=True)
class Times:
    """Milliseconds, as far as benchmark_model tells them: no p90, and no single run."""

    runs: int
    median_ms: float
    min_ms: float


@dataclass(frozen=True)
class BenchmarkWorkspace(AndroidWorkspace):
    """A folder on a device without Python."""

    def time(self, model: Path, *, threads: int, warmups: int, runs: int) -> tuple[Times, str, str]:
        """The times of one inference, the runtime and its kernels. Raises UnsupportedError for a refused file."""
        binary = self.options.benchmark_model
        assert binary is not None
        for path in (binary, model):
            self.push(path)
        flags = {
            "graph": model.name,
            "num_threads": threads,
            "warmup_runs": warmups,
            "warmup_min_secs": 0,
            "num_runs": runs,
            "min_secs": 0,
            "use_xnnpack": "true",  # older builds leave it off
        }
        program = f"./{shlex.quote(binary.name)}"
        self.shell(f"chmod 755 {shlex.quote(f'{self.folder}/{binary.name}')}")
        done = self.run(" ".join([program, *(f"--{key}={shlex.quote(str(value))}" for key, value in flags.items())]))
        if done.code:
            raise self._failed(binary, model, done)
        kernels = "xnnpack" if "XNNPACK delegate" in done.out + done.err else "builtin"
        digest = hashlib.sha256(binary.read_bytes()).hexdigest()[:12]
        return parse(done.out + done.err), f"benchmark_model sha256:{digest}", kernels

    def facts(self) -> dict[str, Any]:
        """All, since no runner finds anything."""
        governors = self.shell("cat /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor").out.split()
        allowed = re.search(r"Cpus_allowed_list:\s*(\S+)", self.shell(self.pinned("cat /proc/self/status")).out)
        return {
            "machine": self.shell("uname -m").out.strip(),
            "cpuinfo": self.shell("cat /proc/cpuinfo").out,
            "cores": cores(allowed[1]) if allowed else (),
            "governor": ", ".join(sorted(set(governors))),
            "celsius": None,
            "emulator": "",
            **super().facts(),
        }

    def _failed(self, binary: Path, model: Path, done: Completed) -> Exception:
        errors = [line for line in (done.out + done.err).splitlines() if line.startswith("ERROR")]
        if NOT_RUN.search(last_line(done.err)):
            abi = self.shell("getprop ro.product.cpu.abi").out.strip() or "the device"
            return RuntimeUnavailable(
                f"{binary.name} does not run on {self.link.name}",
                why=last_line(done.err),
                try_=f"a benchmark_model built for {abi}",
            )
        if errors:
            return UnsupportedError(f"benchmark_model on {self.link.name} refuses {model.name}", where=errors[-3:])
        return RuntimeUnavailable(f"benchmark_model {done.ending} on {self.link.name}", why=last_line(done.err))


def parse(log: str) -> Times:
    """Of the runs after the warm-ups. Raises RuntimeUnavailable for builds that tell no median."""
    blocks = log.split("Running benchmark for at least")
    row = re.search(r"^.*\bcount=.*$", blocks[-1], re.MULTILINE) if len(blocks) == 3 else None
    fields = {key: float(value) for key, value in re.findall(r"(\w+)=([-+.\deE]*\d)", row[0])} if row else {}
    if not {"count", "curr"} <= fields.keys():
        raise RuntimeUnavailable("benchmark_model printed no times", where=log.splitlines()[-3:])
    if "median" not in fields:
        raise RuntimeUnavailable(
            "this benchmark_model tells no median", why=row[0] if row else "", try_="a newer build"
        )
    least = fields.get("min", fields["curr"])  # left out when all are equal
    return Times(int(fields["count"]), fields["median"] / 1e3, least / 1e3)
