"""Ranges of every activation, from running the float graph on calibration samples with one observer a value."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from exporter.errors import DataError
from exporter.ir.graph import Graph, Value
from exporter.ir.ops import Scale
from exporter.ir.run import Interpreter
from exporter.ir.tail import without_tail
from exporter.quantize.attention import split_attention
from exporter.quantize.depthwise import split_depthwise
from exporter.quantize.layer_norm import split_layer_norms
from exporter.quantize.observers import Observer, make_observer

MOST_WORKERS = 4
"""Samples that run at once, at most: each holds its own activations."""

Ranges = dict[str, tuple[float, float]]
"""Value name -> smallest and largest real value that its codes must hold."""
Extremes = dict[str, tuple[Sequence[float], Sequence[float]]]
"""Value name -> its exact minimum and maximum in every sample; the samples are in one order for all values."""


def calibrate(
    graph: Graph,
    samples: Iterable[Sequence[Tensor]],
    method: str = "mse",
    percentile: float = 99.99,
    progress: Callable[[int], None] = lambda done: None,
) -> Ranges:
    """The ranges alone of what `observe` returns."""
    return observe(graph, samples, method, percentile, progress)[0]


def observe(
    graph: Graph,
    samples: Iterable[Sequence[Tensor]],
    method: str = "mse",
    percentile: float = 99.99,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[Ranges, Extremes]:
    """Run `graph` (float) on every sample and return the observed ranges, and what each sample reached.

    Samples run side by side, each on one thread: that keeps every core busy where the threads of one convolution would
    wait for each other, and the numbers do not depend on the count of cores. Each worker has observers of its own,
    which are merged; merging equals collecting at once. Statistics stream: memory does not grow with the number of
    samples. Raises DataError without any sample or when an activation is not finite.
    """
    graph = without_tail(graph)  # which has no ranges
    split_depthwise(graph)
    forced = split_attention(graph) | split_layer_norms(graph)
    names = [v.name for v in observed(graph)]
    interpreter = Interpreter(graph)
    workers = [_Worker(interpreter, {n: make_observer(method, n, percentile) for n in names}) for _ in range(_cores())]
    pending: deque[Future[None]] = deque()
    done = 0
    try:
        for number, sample in enumerate(samples):
            pending.append(workers[number % len(workers)].submit(number, sample))
            if len(pending) > len(workers):
                pending.popleft().result()
                progress(done := done + 1)
        for future in pending:
            future.result()
            progress(done := done + 1)
    finally:
        for worker in workers:
            worker.pool.shutdown(cancel_futures=True)
    if not done:
        raise DataError("no calibration samples", try_="--calib FOLDER with 16 or more typical pictures")
    first, *others = (worker.observers for worker in workers[:done])
    for other in others:
        for name, observer in first.items():
            observer.merge(other[name])
    extremes: Extremes = {name: (observer.lows, observer.highs) for name, observer in first.items()}
    return {name: observer.finish() for name, observer in first.items()} | forced, extremes


class _Worker:
    """One thread that runs samples and collects their statistics."""

    def __init__(self, interpreter: Interpreter, observers: dict[str, Observer]) -> None:
        self.interpreter, self.observers = interpreter, observers
        # torch's thread count belongs to the calling thread.
        self.pool = ThreadPoolExecutor(
            1, thread_name_prefix="calibrate", initializer=torch.set_num_threads, initargs=(1,)
        )

    def submit(self, number: int, sample: Sequence[Tensor]) -> Future[None]:
        return self.pool.submit(self._run, number, sample)

    def _run(self, number: int, sample: Sequence[Tensor]) -> None:
        try:
            self.interpreter.run(sample, self._tap)
        except DataError as error:
            error.where = (*error.where, f"calibration sample {number}")
            raise

    def _tap(self, value: Value, tensor: Tensor) -> None:
        if (observer := self.observers.get(value.name)) is not None:
            observer.collect(tensor)


def _cores() -> int:
    return min(MOST_WORKERS, os.cpu_count() or 1)


def observed(graph: Graph) -> list[Value]:
    """The values whose parameters are free: inputs, and outputs of ops that have a range of their own."""
    outputs = [v for node in graph.nodes if node.op.scale is Scale.FREE for v in node.outputs]
    return [*graph.inputs, *outputs]
