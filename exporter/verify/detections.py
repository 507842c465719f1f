"""Detections are sets: two results agree when their members pair up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from exporter.ir.detection import intersection_over_union
from exporter.ir.graph import Graph
from exporter.verify.results import Matched


@dataclass(frozen=True)
class Tolerance:
    """A pair has one class, an IoU of at least `iou` and scores at most `score` apart."""

    iou: float
    score: float


SAME = Tolerance(0.99, 1e-3)
"""The same detection, computed twice in float32."""
SIMILAR = Tolerance(0.5, 1.0)
"""The same object, as COCO counts it at its lowest threshold."""


def detection_outputs(graph: Graph) -> tuple[int, ...]:
    """Places of boxes, class ids, scores and number among the outputs; empty where the graph ends otherwise."""
    for node in graph.nodes:
        if node.op.name == "detection_postprocess" and all(value in graph.outputs for value in node.outputs):
            return tuple(graph.outputs.index(value) for value in node.outputs)
    return ()


def found(outputs: Sequence[Tensor]) -> list[tuple[Tensor, Tensor, Tensor]]:
    """boxes [n, 4], class ids [n] and scores [n] of each picture, without the rows beyond the number."""
    boxes, classes, scores, count = outputs
    return [(boxes[i, :n], classes[i, :n], scores[i, :n]) for i, n in enumerate(int(n) for n in count)]


class DetectionMeter:
    """Detections of one file against a reference's, over all samples."""

    def __init__(self, file: str, reference: str, tolerance: Tolerance) -> None:
        self.file, self.reference, self.tolerance = file, reference, tolerance
        self.expected = self.found = 0
        self.overlaps: list[float] = []
        self.max_score_error = 0.0

    def add(self, reference: Sequence[Tensor], result: Sequence[Tensor]) -> None:
        """Take in one sample's boxes, class ids, scores and number."""
        for wanted, given in zip(found(reference), found(result), strict=True):
            self.expected += len(wanted[2])
            self.found += len(given[2])
            for overlap, error in pairs(wanted, given, self.tolerance):
                self.overlaps.append(overlap)
                self.max_score_error = max(self.max_score_error, error)

    def result(self) -> Matched:
        """The figures."""
        return Matched(
            file=self.file,
            reference=self.reference,
            expected=self.expected,
            found=self.found,
            matched=len(self.overlaps),
            least_iou=self.tolerance.iou,
            most_score=self.tolerance.score,
            mean_iou=fmean(self.overlaps) if self.overlaps else None,
            max_score_error=self.max_score_error,
        )


Picture = tuple[Tensor, Tensor, Tensor]


def pairs(wanted: Picture, given: Picture, tolerance: Tolerance) -> list[tuple[float, float]]:
    """(IoU, difference of scores) of each pair. Best score first, each takes the free one that overlaps it most."""
    boxes, classes, scores = given
    free = torch.ones(len(scores), dtype=torch.bool)
    paired = []
    for box, label, score in zip(*wanted, strict=True):
        overlaps = intersection_over_union(box, boxes)
        fits = free & (classes == label) & (overlaps >= tolerance.iou) & ((scores - score).abs() <= tolerance.score)
        if fits.any():
            best = int(torch.where(fits, overlaps, -1.0).argmax())
            free[best] = False
            paired.append((float(overlaps[best]), float((scores[best] - score).abs())))
    return paired
