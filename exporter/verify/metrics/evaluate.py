"""Files run on a labelled set, and their figures with intervals and drops."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from exporter.verify.metrics.intervals import RESAMPLES, SEED, middle, resamples, wilson
from exporter.verify.metrics.protocol import Labelled, LabelledSet, Metric, Tensors
from exporter.verify.results import Evaluation, Score

BATCH = 8
"""Inputs that a device gets with one job; 3 MB each at 512 x 512."""


@dataclass(frozen=True)
class Runner:
    """Something that computes the model: eager PyTorch, or a file on a runtime.

    `run` takes samples, each float32 [1, 3, height, width], and gives for each the model's outputs in its order and
    PyTorch's axis order, as floats. `file` is PyTorch, float32, int8, ...; `target` the format, empty for PyTorch;
    `device` is as asked for, empty for this machine.
    """

    file: str
    runtime: str
    run: Callable[[Sequence[Tensors]], Iterable[Tensors]]
    target: str = ""
    shipped: bool = False
    device: str = ""


Watch = Callable[[Labelled, Runner, Tensors], None]


def evaluate(
    labelled: LabelledSet,
    runners: Sequence[Runner],
    *,
    calibrated_on: Collection[str] = (),
    progress: Callable[[int], None] = lambda done: None,
    watch: Watch = lambda item, runner, outputs: None,
) -> Evaluation:
    """Every runner on every picture. Drops are against the first runner, on the same pictures.

    `calibrated_on` are the sha256 of the pictures that ranges came from; `progress` gets the number of pictures done,
    `watch` every input with every runner's outputs.
    """
    metrics = measure(labelled, runners, progress, watch)
    images, digests = len(labelled.names), labelled.digests()
    drawn = [np.array([metric.values(weights) for weights in resamples(images)]) for metric in metrics]
    rows = zip(runners, metrics, drawn, strict=True)
    return Evaluation(
        task=labelled.task,
        source=labelled.source,
        images=images,
        available=labelled.available,
        labels=labelled.labels,
        protocol=f"{labelled.protocol} {_how(metrics[0])}",
        seen_in_calibration=sum(digest in set(calibrated_on) for digest in digests.values()),
        scores=tuple(
            score
            for runner, metric, figures in rows
            for score in _scores(runner, metric, figures, metrics[0], drawn[0])
        ),
    )


def measure(
    labelled: LabelledSet,
    runners: Sequence[Runner],
    progress: Callable[[int], None] = lambda done: None,
    watch: Watch = lambda item, runner, outputs: None,
) -> list[Metric]:
    """The metric of every runner, each on every picture; pictures are read once for all of them."""
    metrics = [labelled.metric() for _ in runners]
    for batch in _batches(labelled):
        progress(batch[0].image)
        for runner, metric in zip(runners, metrics, strict=True):
            for item, outputs in zip(batch, runner.run([item.sample for item in batch]), strict=True):
                metric.add(item.image, outputs, item.truth)
                watch(item, runner, outputs)
    progress(len(labelled.names))
    return metrics


def _batches(items: Iterable[Labelled]) -> Iterator[list[Labelled]]:
    stream = iter(items)
    while batch := list(islice(stream, BATCH)):
        yield batch


def _how(metric: Metric) -> str:
    own = "Wilson's score interval" if metric.interval == "Wilson" else "bootstrap"
    drops = "; of drops: bootstrap" if metric.interval == "Wilson" else ", of drops too"
    return f"95 % intervals: {own}{drops} over pictures, {RESAMPLES} draws, seed {SEED}."


def _scores(runner: Runner, metric: Metric, drawn: np.ndarray, base: Metric, base_drawn: np.ndarray) -> list[Score]:
    found = []
    rows = zip(metric.names, metric.values(), base.values(), drawn.T, base_drawn.T, strict=True)
    for name, value, reference, figures, reference_figures in rows:
        against = metric is not base and bool(np.isfinite(value - reference))
        found.append(
            Score(
                target=runner.target,
                file=runner.file,
                runtime=runner.runtime,
                shipped=runner.shipped,
                device=runner.device,
                metric=name,
                value=float(value) if np.isfinite(value) else None,
                interval=_interval(metric, float(value), figures),
                drop=float(100 * (reference - value)) if against else None,
                drop_interval=middle(100 * (reference_figures - figures)) if against else None,
            )
        )
    return found


def _interval(metric: Metric, value: float, drawn: np.ndarray) -> tuple[float, float] | None:
    """None where nothing was labelled, or where one picture is all there is."""
    if not np.isfinite(value) or metric.images < 2:
        return None
    return wilson(value, metric.images) if metric.interval == "Wilson" else middle(drawn)
