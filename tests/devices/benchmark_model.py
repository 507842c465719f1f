"""A stand-in for LiteRT's benchmark_model: its flags, its log, its exit codes; the runs themselves are LiteRT's.

The genuine one cannot be had here. Pushed to the double of a phone as a program of this machine's Python.
"""

import sys
import time

import numpy as np
from ai_edge_litert.interpreter import Interpreter

STATUS = 1
"""EXIT_FAILURE, as the tool ends after `Benchmarking failed.`"""


def main(words: list[str]) -> int:
    flags = dict(word.removeprefix("--").split("=", maxsplit=1) for word in words)
    info("STARTING!")
    info(f"Min num runs: [{flags['num_runs']}]")
    info(f"Num threads: [{flags['num_threads']}]")
    info(f"Graph: [{flags['graph']}]")
    try:
        interpreter = Interpreter(flags["graph"], num_threads=int(flags["num_threads"]))
        interpreter.allocate_tensors()
    except ValueError as error:
        sys.stderr.write(f"ERROR: Failed to load model: {error}\nERROR: Benchmarking failed.\n")
        return STATUS
    info(f"Loaded model {flags['graph']}")
    if flags["use_xnnpack"] == "true":
        info("Created TensorFlow Lite XNNPACK delegate for CPU.")
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
    warmup = timed(interpreter, int(flags["warmup_runs"]), float(flags["warmup_min_secs"]))
    runs = timed(interpreter, int(flags["num_runs"]), float(flags["min_secs"]))
    info(
        f"Inference timings in us: Init: 1, First inference: {warmup[0]}, "
        f"Warmup (avg): {np.mean(warmup):g}, Inference (avg): {np.mean(runs):g}"
    )
    return 0


def timed(interpreter: Interpreter, least: int, seconds: float) -> list[int]:
    info(
        f"Running benchmark for at least {least} iterations and at least {seconds:g} seconds "
        "but terminate if exceeding 150 seconds."
    )
    times: list[int] = []
    begun = time.monotonic()
    while len(times) < least or time.monotonic() < begun + seconds:
        start = time.perf_counter_ns()
        interpreter.invoke()
        times.append((time.perf_counter_ns() - start) // 1000)
    ordered = sorted(times)
    p5, median, p95 = (ordered[len(times) * percent // 100] for percent in (5, 50, 95))
    several = f" first={times[0]} curr={times[-1]} min={min(times)} max={max(times)} avg={np.mean(times):g} std=1"
    same = f" curr={times[-1]}" + ("(all same)" if len(times) > 1 else "")
    info(f"count={len(times)}{several if len(set(times)) > 1 else same} p5={p5} median={median} p95={p95}\n")
    return times


def info(text: str) -> None:
    sys.stdout.write(f"INFO: {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
