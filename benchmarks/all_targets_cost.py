"""What every further format costs: CPU seconds of `--target all --int8` against `--target tflite --int8`.

    python benchmarks/all_targets_cost.py [--model efficientdet_d0] [--runs 2]

The commands run in turn, each in a process of its own, with seeded random weights and the project's own pictures; the
ratio is of the smallest figures. Formats whose packages are absent are not in it. Measure on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Run = tuple[float, dict[str, Any]]


def main() -> None:
    """Run both commands and print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="efficientdet_d0")
    parser.add_argument("--runs", type=int, default=2)
    arguments = parser.parse_args()
    found: dict[str, list[Run]] = {"tflite": [], "all": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.runs):
            for target, runs in found.items():
                runs.append(_command(arguments.model, target, Path(folder) / f"{target}{number}"))
    _show(arguments.model, {target: min(runs, key=lambda run: run[0]) for target, runs in found.items()})


def _command(model: str, target: str, out: Path) -> Run:
    """CPU seconds of the command with its children's, and its report."""
    options = ["--int8", "--target", target, "--quiet", "--out", str(out)]
    child = subprocess.Popen([sys.executable, "-m", "exporter.cli", model, *options])
    _, status, usage = os.wait4(child.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, 5):  # 5: random weights may miss an accuracy gate; the cost is the same
        raise SystemExit(f"{model} --target {target} ended with {code}")
    return usage.ru_utime + usage.ru_stime, json.loads((out / "report.json").read_text())


def _show(model: str, found: dict[str, Run]) -> None:
    console = Console()
    (one, alone), (every, whole) = found["tflite"], found["all"]
    console.print(f"{model} --int8, {', '.join(whole['targets'])}, {whole['processor']}")
    console.print(f"weights: {whole['weights']}")
    console.print(", ".join(f"{name} {version}" for name, version in whole["versions"].items()) + "\n")
    table = Table("CPU s", "--target tflite", "--target all")
    times = [{stage["stage"]: stage["cpu_s"] for stage in report["stages"]} for report in (alone, whole)]
    for stage in times[1]:
        table.add_row(stage, *(f"{each[stage]:.2f}" for each in times))
    table.add_row("whole command", f"{one:.2f}", f"{every:.2f}")
    console.print(table)
    console.print(f"all / tflite: {every / one:.2f} x")


if __name__ == "__main__":
    main()
