"""Ranges of every activation, from running the float graph on calibration samples with one observer a value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor

from exporter.errors import DataError
from exporter.ir.graph import Graph, Value
from exporter.ir.ops import Scale
from exporter.ir.run import Interpreter
from exporter.quantize.observers import Observer, make_observer

Ranges = dict[str, tuple[float, float]]
"""Value name -> smallest and largest real value that its codes must hold."""


def calibrate(
    graph: Graph,
    samples: Iterable[Sequence[Tensor]],
    method: str = "mse",
    percentile: float = 99.99,
    progress: Callable[[int], None] = lambda done: None,
) -> Ranges:
    """Run `graph` (float) on every sample and return the observed ranges.

    Statistics stream: memory does not grow with the number of samples. Raises DataError without any sample or when
    an activation is not finite.
    """
    observers: dict[str, Observer] = {v.name: make_observer(method, v.name, percentile) for v in observed(graph)}
    interpreter = Interpreter(graph)

    def tap(value: Value, tensor: Tensor) -> None:
        if (observer := observers.get(value.name)) is not None:
            observer.collect(tensor)

    done = 0
    for done, sample in enumerate(samples, 1):
        interpreter.run(sample, tap)
        progress(done)
    if not done:
        raise DataError("no calibration samples", try_="--calib FOLDER with 16 or more typical pictures")
    return {name: observer.finish() for name, observer in observers.items()}


def observed(graph: Graph) -> list[Value]:
    """The values whose parameters are free: inputs, and outputs of ops that have a range of their own."""
    outputs = [v for node in graph.nodes if node.op.scale is Scale.FREE for v in node.outputs]
    return [*graph.inputs, *outputs]
