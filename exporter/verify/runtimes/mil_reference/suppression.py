"""The nonMaximumSuppression model of a pipeline, by the comments of NonMaximumSuppression.proto."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from exporter.errors import UnsupportedError


class Suppression:
    """confidence [N, C] and coordinates [N, 4] (centre x, centre y, width, height) -> the rows that remain.

    A row's class is that of its largest confidence, which must reach the threshold. Rows fall, best first, when their
    intersection over union with a better one exceeds the threshold (with `perClass`, one of their class). Rows come in
    falling order of confidence; a description that fixes or bounds their number pads them with zeros or cuts them.
    """

    def __init__(self, model: Any) -> None:
        self._spec = spec = model.nonMaximumSuppression
        if spec.WhichOneof("SuppressionMethod") not in (None, "pickTop"):
            raise UnsupportedError("the reference executor knows no other suppression than PickTop")
        self._per_class = spec.pickTop.perClass
        rows = [_rows(feature) for feature in model.description.output]
        self._least = max((low for low, _ in rows), default=0)
        self._most = min((high for _, high in rows if high is not None), default=None)

    def run(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The named outputs, in the inputs' types; thresholds come from `values` where they are among them."""
        spec = self._spec
        confidence = values[spec.confidenceInputFeatureName]
        coordinates = values[spec.coordinatesInputFeatureName]
        overlap = float(values.get(spec.iouThresholdInputFeatureName, spec.iouThreshold))
        least = float(values.get(spec.confidenceThresholdInputFeatureName, spec.confidenceThreshold))
        kept = self._kept(confidence.astype(np.float64), coordinates.astype(np.float64), overlap, least)
        padding = ((0, max(0, self._least - len(kept))), (0, 0))
        return {
            spec.confidenceOutputFeatureName: np.pad(confidence[kept], padding),
            spec.coordinatesOutputFeatureName: np.pad(coordinates[kept], padding),
        }

    def _kept(self, confidence: np.ndarray, boxes: np.ndarray, overlap: float, least: float) -> np.ndarray:
        best, classes = confidence.max(1), confidence.argmax(1)
        order = np.argsort(-best, kind="stable")
        order = order[best[order] >= least]
        kept: list[int] = []
        while order.size and len(kept) != self._most:
            top, order = order[0], order[1:]
            kept.append(int(top))
            falls = _overlaps(boxes[top], boxes[order]) > overlap
            order = order[~(falls & (classes[order] == classes[top]) if self._per_class else falls)]
        return np.array(kept, np.int64)


def _overlaps(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of one box [4] with others [N, 4]; 0 for boxes without area."""
    low = np.maximum(box[:2] - box[2:] / 2, boxes[:, :2] - boxes[:, 2:] / 2)
    high = np.minimum(box[:2] + box[2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2)
    shared = np.maximum(high - low, 0).prod(1)
    union = box[2:].prod() + boxes[:, 2:].prod(1) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _rows(feature: Any) -> tuple[int, int | None]:
    """Fewest and most rows that an output may have; None: any number."""
    array = feature.type.multiArrayType
    kind = array.WhichOneof("ShapeFlexibility")
    if kind == "shapeRange" and array.shapeRange.sizeRanges:
        size = array.shapeRange.sizeRanges[0]
        return int(size.lowerBound), None if size.upperBound < 0 else int(size.upperBound)
    if kind is None and len(array.shape) > 1:
        return int(array.shape[0]), int(array.shape[0])
    return 0, None
