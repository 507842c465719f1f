"""The repair ladder: what is done to an int8 model that loses too much of its task, the cheapest first."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor, nn

from exporter.ir.graph import Graph
from exporter.ir.macs import graph_macs, integer_macs, node_macs
from exporter.lower import Target
from exporter.lower.facts import Facts
from exporter.quantize.assign import Plan
from exporter.quantize.calibrate import Ranges
from exporter.quantize.equalize import Octaves, equalization, equalize
from exporter.quantize.keep_float import kept_float
from exporter.quantize.sensitivity import localize
from exporter.verify.comparison import Artifact
from exporter.verify.localize import PROBES, globs_of
from exporter.verify.metrics.evaluate import Runner, measure
from exporter.verify.metrics.protocol import LabelledSet
from exporter.verify.metrics.runners import of_file, runners
from exporter.verify.results import Rung

Samples = Sequence[Sequence[Tensor]]
LEAST_INTEGER = 0.95
"""Least share of the multiply-accumulates that stays integer: islands beyond are not tried."""
LOOKED_AT = 8
"""Calibration samples that equalisation looks at."""
MOST_ISLANDS = 32
"""Layers that go float, at most."""


@dataclass(frozen=True)
class Attempt:
    """An int8 model and what it was made from: the float graph, equalised by `octaves`, and its ranges."""

    graph: Graph
    ranges: Ranges
    lowered: Graph
    plan: Plan
    islands: dict[str, str]
    keep_float: tuple[str, ...] = ()
    octaves: Octaves = field(default_factory=dict)


@dataclass(frozen=True)
class Workshop:
    """What rungs work with: how to calibrate a float graph and to quantise it, and samples to look at."""

    calibrate: Callable[[Graph], Ranges]
    quantize: Callable[[Graph, Ranges, tuple[str, ...]], tuple[Graph, Plan, dict[str, str]]]
    calibration: Samples
    held_out: Samples

    def made(self, graph: Graph, ranges: Ranges, keep_float: tuple[str, ...], octaves: Octaves) -> Attempt:
        """An attempt of these parts."""
        return Attempt(graph, ranges, *self.quantize(graph, ranges, keep_float), keep_float, octaves)


def judge_of(
    labelled: LabelledSet, module: nn.Module, name: str, target: Target, facts: Facts
) -> Callable[[Attempt], float]:
    """How far the task metric of an int8 file for `target`, called `name`, falls below PyTorch's `module`, on the
    labelled pictures; 0.01 is one point.
    """

    def value(runner: Runner) -> float:
        (metric,) = measure(labelled, [runner])
        return float(metric.values()[0])

    reference = value(next(runners(module, ())))

    def drop(attempt: Attempt) -> float:
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / f"{facts.name}{target.suffix}"
            target.write(attempt.lowered, path, facts)
            found = value(of_file(name, Artifact(path, attempt.lowered, "int8")))
        return round(reference - found, 9)  # 0.64 - 0.63 is one point, not a hair more

    return drop


def climb(
    attempt: Attempt,
    workshop: Workshop,
    judge: Callable[[Attempt], float],
    most: float,
    say: Callable[[Rung], None] = lambda rung: None,
) -> tuple[Attempt, tuple[Rung, ...]]:
    """Try rung after rung until `judge` (the drop of the task metric, 0.01 is one point) gives at most `most`.

    A change that does not lower the drop is taken back. Returns the best attempt and every rung that was tried.
    """
    drop = judge(attempt)
    rungs = [Rung(name="as calibrated", drop=drop, integer_macs=integer_macs(attempt.lowered), kept=True)]
    say(rungs[-1])
    for name, tries in LADDER:
        if drop <= most:
            break
        for detail, other in tries(attempt, workshop):
            found, share = judge(other), integer_macs(other.lowered)
            rungs.append(Rung(name=name, detail=detail, drop=found, integer_macs=share, kept=found < drop))
            say(rungs[-1])
            if found < drop:
                attempt, drop = other, found
            if drop <= most:
                break
    return attempt, tuple(rungs)


def _equalised(attempt: Attempt, workshop: Workshop) -> Iterator[tuple[str, Attempt]]:
    """Channels of one tensor get like ranges (`exporter.quantize.equalize`)."""
    octaves = equalization(attempt.graph, workshop.calibration)
    if not octaves:
        return
    graph = attempt.graph.clone()
    equalize(graph, octaves)
    count = sum(1 for scales in octaves.values() for octave in scales if octave)
    made = workshop.made(graph, workshop.calibrate(graph), attempt.keep_float, octaves)
    yield f"{count} channels of {len(octaves)} tensors", made


def _islands(attempt: Attempt, workshop: Workshop) -> Iterator[tuple[str, Attempt]]:
    """The layers that do most to the outputs go float, twice as many from one try to the next; those that would take
    too many multiply-accumulates with them stay.
    """
    graph, globs, taken, tried = attempt.graph, attempt.keep_float, 0, 0
    found = localize(graph, attempt.lowered, workshop.held_out, keep_float=globs, probes=PROBES)
    budget = (1 - LEAST_INTEGER) * graph_macs(graph)
    for layer in found.layers:
        more = tuple(dict.fromkeys((*globs, *globs_of(graph, found.region(layer.value)))))
        if layer.effect <= 0 or more == globs or sum(map(node_macs, kept_float(graph, more))) > budget:
            continue
        globs, taken = more, taken + 1
        if taken.bit_count() == 1:
            tried = taken
            yield _with_islands(attempt, workshop, globs)
        if taken == MOST_ISLANDS:
            break
    if tried < taken:
        yield _with_islands(attempt, workshop, globs)


def _with_islands(attempt: Attempt, workshop: Workshop, globs: tuple[str, ...]) -> tuple[str, Attempt]:
    lowered, plan, islands = workshop.quantize(attempt.graph, attempt.ranges, globs)
    kept = replace(attempt, lowered=lowered, plan=plan, islands=islands, keep_float=globs)
    return ", ".join(globs), kept


Tries = Callable[[Attempt, Workshop], Iterable[tuple[str, Attempt]]]
LADDER: tuple[tuple[str, Tries], ...] = (("equalisation", _equalised), ("float islands", _islands))
"""In rising order of cost: the first costs nothing at run time."""
