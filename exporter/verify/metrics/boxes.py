"""Detection: a model's outputs as boxes of the picture, judged by COCO's average precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_structure, tree_unflatten

from exporter.build.postprocess import Decoded, Detections, Detector
from exporter.errors import UsageError
from exporter.ir.detection import decode, nms
from exporter.quantize.preprocess import View
from exporter.verify.detections import found
from exporter.verify.metrics.precision import NAMES, AveragePrecision, Entries
from exporter.verify.metrics.protocol import Tensors

CANDIDATES, OVERLAP, BEST = 5000, 0.5, 100
"""What follows heads and decoded boxes, as in effdet's evaluation: the best (box, class) pairs, suppression within each
class, the best that remain.
"""
Picture = tuple[Tensor, Tensor, Tensor]
"""boxes [n, 4], y0, x0, y1, x1 as parts of the input; class ids [n] from 0; scores [n]."""
Reader = Callable[[Tensors], Picture]


def reader(module: nn.Module | None, size: tuple[int, int]) -> tuple[Reader, int]:
    """How a detector's outputs are read, and its number of classes. `size` is the input's height and width.

    Finished detections as they are; heads and decoded boxes with their own suppression. UsageError for other models.
    """
    if isinstance(module, Detections):
        return lambda outputs: found(outputs)[0], module.detector.num_classes
    if isinstance(module, Decoded):
        return lambda outputs: suppressed(outputs[0][0], outputs[1][0]), module.detector.num_classes
    if not isinstance(module, Detector):
        raise UsageError(
            "boxes judge a detector",
            why=f"{type(module).__name__} says nothing about its anchors",
            try_="your own detector: docs/adding-a-model.md says what it must offer",
        )
    assert isinstance(module, nn.Module)
    with torch.no_grad():
        structure = tree_structure(module(torch.zeros(1, 3, *size)))
    anchors = module.priors()

    @torch.no_grad()
    def heads(outputs: Tensors) -> Picture:
        codes, scores = module.predictions(tree_unflatten(list(outputs), structure))
        return suppressed(decode(codes[0], anchors), scores[0])

    return heads, module.num_classes


def suppressed(boxes: Tensor, scores: Tensor) -> Picture:
    """Boxes [A, 4] and scores [A, classes] of every anchor -> the detections."""
    classes = scores.shape[1]
    best = scores.flatten().topk(min(CANDIDATES, scores.numel()))
    rows, ids = best.indices // classes, best.indices % classes
    boxes = boxes[rows].clamp(0, 1)
    kept = nms(boxes, best.values, ids, OVERLAP, BEST)
    return boxes[kept], ids[kept], best.values[kept]


class BoxPrecision:
    """AP, AP50 and AP75 of boxes. `categories` is the COCO id of each class that is labelled."""

    names: tuple[str, ...] = NAMES
    interval = "bootstrap"

    def __init__(self, images: int, read: Reader, size: tuple[int, int], categories: Mapping[int, int]) -> None:
        self.images, self._read, self._size, self._categories = images, read, size, categories
        self._precision = AveragePrecision(images, list(categories.values()))

    def add(self, image: int, outputs: Tensors, truth: tuple[View, Entries]) -> None:
        """One picture's outputs; where the picture lies in the input, and its annotations."""
        view, labelled = truth
        boxes, classes, scores = self._read(outputs)
        corners = in_picture(boxes.double().numpy(), self._size, view)
        rows = zip(corners, classes.tolist(), scores.tolist(), strict=True)
        results = [
            {"category_id": self._categories[int(number)], "score": score, "bbox": box, "area": box[2] * box[3]}
            for box, number, score in rows
            if int(number) in self._categories and np.isfinite([*box, score]).all()
        ]
        self._precision.add(image, labelled, [{**result, "iscrowd": 0} for result in results])

    def values(self, weights: np.ndarray | None = None) -> np.ndarray:
        return self._precision.values(weights)


def in_picture(boxes: np.ndarray, size: tuple[int, int], view: View) -> Sequence[list[float]]:
    """Boxes y0, x0, y1, x1 [n, 4] as parts of the input -> x, y, width, height in the picture's pixels, cut at its
    edges.
    """
    height, width = size
    y0, x0, y1, x1 = boxes.T * np.array([[height], [width], [height], [width]])
    left, top = view.to_picture(x0, y0)
    right, bottom = view.to_picture(x1, y1)
    left, right = (np.clip(x, 0, view.picture[0]) for x in (left, right))
    top, bottom = (np.clip(y, 0, view.picture[1]) for y in (top, bottom))
    pixels: list[list[float]] = np.stack([left, top, right - left, bottom - top], 1).tolist()
    return pixels
