"""Pose: heatmaps as joints of the picture, judged by COCO's average precision (OKS) and by PCK."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from exporter.build.pose import Region, decode, to_picture
from exporter.verify.metrics.precision import NAMES, AveragePrecision
from exporter.verify.metrics.protocol import Tensors

PCK = 0.2
"""Of the longer side of a person's box: how near a joint must be (mmpose `PCKAccuracy`, norm_item bbox)."""
CERTAIN = 0.2
"""Height of a peak that counts in a person's score (mmpose `CocoMetric`, keypoint_score_thr)."""


@dataclass(frozen=True)
class Person:
    """One person: what the network sees, and the annotation, with all annotations of its picture."""

    region: Region
    annotation: Mapping[str, Any]
    everyone: Sequence[Mapping[str, Any]]


class JointPrecision:
    """AP, AP50 and AP75 over OKS where `sigmas` say how exactly each joint can be annotated, and PCK.

    `order` is the model's joint for each annotated one. `sigmas` None: PCK alone.
    """

    interval = "bootstrap"

    def __init__(self, images: int, category: int, order: Sequence[int], sigmas: Sequence[float] | None) -> None:
        self.images, self._category, self._order = images, category, list(order)
        self._precision = None if sigmas is None else AveragePrecision(images, [category], "keypoints", sigmas)
        self.names = (*(NAMES if self._precision else ()), f"PCK@{PCK:g}")
        self._near, self._labelled = np.zeros(images), np.zeros(images)
        self._people: list[tuple[Person, dict[str, Any]]] = []
        self._image = -1

    def add(self, image: int, outputs: Tensors, truth: Person) -> None:
        """One person's heatmaps [1, joints, height, width]."""
        if image != self._image:
            self._finish_image()
            self._image = image
        heatmaps = outputs[0][0]
        joints, heights = decode(heatmaps)
        height, width = heatmaps.shape[-2:]
        points = to_picture(joints, truth.region, (height, width))[self._order].double().numpy()
        peaks = heights[self._order].double().numpy()
        labelled = np.array(truth.annotation["keypoints"], float).reshape(-1, 3)
        seen = labelled[:, 2] > 0
        apart = np.hypot(*(points - labelled[:, :2]).T)
        near = (apart <= PCK * max(truth.annotation["bbox"][2:])) & (peaks > 0) & np.isfinite(apart)
        self._near[image] += int((near & seen).sum())
        self._labelled[image] += int(seen.sum())
        self._people.append((truth, self._result(points, peaks)))

    def values(self, weights: np.ndarray | None = None) -> np.ndarray:
        self._finish_image()
        counted = np.ones(self.images) if weights is None else weights
        joints = self._labelled @ counted
        near = self._near @ counted / joints if joints else np.nan
        return np.append(self._precision.values(weights) if self._precision else np.zeros(0), near)

    def _result(self, points: np.ndarray, peaks: np.ndarray) -> dict[str, Any]:
        certain = peaks[peaks > CERTAIN]
        score = float(certain.mean()) if len(certain) else 0.0
        keypoints = np.concatenate([np.nan_to_num(points), peaks[:, None]], 1).reshape(-1).tolist()
        return {"category_id": self._category, "keypoints": keypoints, "score": score, "area": 0.0}

    def _finish_image(self) -> None:
        if self._people and self._precision:
            self._precision.add(self._image, self._people[0][0].everyone, [result for _, result in self._people])
        self._people = []
