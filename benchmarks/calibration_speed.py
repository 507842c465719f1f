"""Calibration against the plain float model: CPU and wall milliseconds a picture, side by side in one run.

    python benchmarks/calibration_speed.py [--model efficientdet_d0] [--images 16] [--rounds 3]

Rows: eager torch, channels-last eager torch, LiteRT on our own float32 file, our interpreter without and with
observers. Every engine sees the same decoded pictures; rounds alternate between the rows, and the best round counts.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from exporter.ir.run import Interpreter
from exporter.pipeline import Pipeline
from exporter.quantize.calibrate import calibrate
from exporter.recipe import load_recipe
from exporter.verify import tflite
from exporter.verify.processor import processor
from exporter.verify.runtimes.litert import LiteRT


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="efficientdet_d0")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    run = Pipeline(load_recipe(arguments.model))
    run.build()
    run.capture()
    run.simplify()
    samples = [feed for feed, _ in zip(run.inputs.calibration.feeds(), range(arguments.images), strict=False)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float32.tflite"
        run.targets["tflite"].write(run.graph, path, run._facts("float32"))
        rows = _rows(run, samples, LiteRT(path, threads=1))
        best = {name: (float("inf"), float("inf")) for name in rows}
        for _ in range(arguments.rounds):
            for name, work in rows.items():
                best[name] = min(best[name], _timed(work))
    base = best["our interpreter, float"]
    table = Table("engine", "CPU ms / picture", "wall ms / picture", "CPU x", "wall x")
    for name, (cpu, wall) in best.items():
        each = (1e3 * cpu / len(samples), 1e3 * wall / len(samples))
        table.add_row(name, *(f"{v:.0f}" for v in each), f"{cpu / base[0]:.2f}", f"{wall / base[1]:.2f}")
    Console().print(f"{arguments.model}, {len(samples)} pictures, {processor()}, weights: {run.inputs.weights}")
    Console().print(table)


def _rows(run: Pipeline, samples: list[tuple[Tensor, ...]], runtime: LiteRT) -> dict[str, Callable[[], object]]:
    module, interpreter = run.inputs.module, Interpreter(run.graph)
    storage = tflite.Storage(run.graph)
    feeds = [storage.feed(sample) for sample in samples]
    last = [tuple(x.contiguous(memory_format=torch.channels_last) for x in sample) for sample in samples]

    def eager(inputs: list[tuple[Tensor, ...]]) -> Callable[[], object]:
        return lambda: [module(*x) for x in inputs]

    observed = {
        f"calibrate, {method}": lambda method=method: calibrate(run.graph, samples, method)
        for method in ("minmax", "percentile", "mse", "entropy")
    }
    return {
        "eager torch": eager(samples),
        "eager torch, channels-last": eager(last),
        f"{runtime.runtime}, 1 thread": lambda: [runtime.run(feed) for feed in feeds],
        "our interpreter, float": lambda: [interpreter.run(sample) for sample in samples],
        **observed,
    }


@torch.no_grad()
def _timed(work: Callable[[], object]) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


if __name__ == "__main__":
    main()
