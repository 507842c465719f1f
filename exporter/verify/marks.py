"""What a model found in a picture, read off its outputs: boxes, joints, classes or the class of every pixel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from exporter.build.pose import decode
from exporter.build.postprocess import Decoded, Detector
from exporter.verify.metrics.boxes import reader
from exporter.verify.metrics.joints import CERTAIN
from exporter.verify.metrics.protocol import Model, Tensors

LEAST_SCORE = 0.3
"""Of a box that is drawn: what apps show."""
MOST_BOXES, MOST_CLASSES = 12, 3


@dataclass(frozen=True)
class Box:
    """One detection: x0, y0, x1, y1 as parts of the input, class from 0, score."""

    corners: tuple[float, float, float, float]
    number: int
    score: float


@dataclass(frozen=True)
class Joint:
    """One joint at x, y as parts of the input, with the height of its peak."""

    place: tuple[float, float]
    number: int
    score: float


@dataclass(frozen=True)
class Class:
    """A class from 0 and its probability."""

    number: int
    score: float


@dataclass(frozen=True)
class Boxes:
    """The best detections, best first."""

    found: tuple[Box, ...]


@dataclass(frozen=True)
class Joints:
    """The joints whose peaks are high enough, of `count`."""

    found: tuple[Joint, ...]
    count: int


@dataclass(frozen=True)
class Classes:
    """The most likely classes, best first."""

    found: tuple[Class, ...]


@dataclass(frozen=True)
class Areas:
    """The best class of each logit's cell [h, w], which together cover the input."""

    numbers: np.ndarray


Marks = Boxes | Joints | Classes | Areas
ReadMarks = Callable[[Tensors], Marks]
"""The outputs of one picture, float32 [1, ...] in the model's order and PyTorch's axis order -> what they say."""


def marks_reader(task: str, model: Model) -> ReadMarks | None:
    """How outputs are read; None where nothing is known about them. `task` is a registered model's or a labelled set's,
    empty: unknown.
    """
    if isinstance(model.module, Decoded | Detector):
        read, _ = reader(model.module, model.preprocess.size)
        return lambda outputs: _boxes(*read(outputs))
    if len(model.outputs) != 1:
        return None
    shape = model.outputs[0]
    if len(shape) >= 2 and shape[1] > 1 and all(side == 1 for side in (shape[0], *shape[2:])):
        return _classes
    if len(shape) == 4 and shape[0] == 1:
        known: dict[str, ReadMarks] = {"pose": _joints, "keypoints": _joints, "segmentation": _areas}
        return known.get(task)
    return None


def _boxes(boxes: torch.Tensor, classes: torch.Tensor, scores: torch.Tensor) -> Boxes:
    """Of y0, x0, y1, x1 [n, 4] as parts of the input."""
    found: list[Box] = []
    for index in scores.argsort(descending=True, stable=True).tolist():
        y0, x0, y1, x1 = boxes[index].double().clamp(0, 1).tolist()
        if scores[index] >= LEAST_SCORE and len(found) < MOST_BOXES:
            found.append(Box((x0, y0, x1, y1), int(classes[index]), float(scores[index])))
    return Boxes(tuple(found))


def _joints(outputs: Tensors) -> Joints:
    """Of heatmaps [1, joints, h, w]."""
    places, heights = decode(outputs[0][0])
    places = places / torch.tensor(outputs[0].shape[:1:-1])
    rows = zip(places.double().tolist(), heights.double().tolist(), strict=True)
    found = tuple(Joint((x, y), i, peak) for i, ((x, y), peak) in enumerate(rows) if peak > CERTAIN)
    return Joints(found, len(heights))


def _classes(outputs: Tensors) -> Classes:
    """Of logits [1, classes], or of probabilities, which add up to one."""
    scores = outputs[0].double().flatten()
    likely = scores if scores.min() >= 0 and abs(float(scores.sum()) - 1) < 0.05 else scores.softmax(0)
    best = likely.argsort(descending=True, stable=True)[:MOST_CLASSES].tolist()
    return Classes(tuple(Class(number, float(likely[number])) for number in best))


def _areas(outputs: Tensors) -> Areas:
    """Of logits [1, classes, h, w]."""
    return Areas(outputs[0][0].argmax(0).numpy())
