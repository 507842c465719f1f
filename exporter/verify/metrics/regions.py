"""Segmentation: class logits compared with a mask, pixel by pixel of the picture."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from exporter.quantize.preprocess import View
from exporter.verify.metrics.protocol import Tensors

IGNORED = 255
"""Of a mask: pixels that nobody labelled."""
ROWS = 256
"""Of the picture, judged at once: memory does not grow with its height."""


class MeanIoU:
    """mIoU: intersection over union of each class over all images, mean of the classes that occur or are claimed."""

    names: tuple[str, ...] = ("mIoU",)
    interval = "bootstrap"

    def __init__(self, images: int, classes: int, size: tuple[int, int]) -> None:
        self.images, self._classes, self._size = images, classes, size
        self._counts = np.zeros((images, 2, classes), np.int64)
        """Of each image: pixels of the intersection and of the union."""

    def add(self, image: int, outputs: Tensors, truth: tuple[View, np.ndarray]) -> None:
        """Logits [1, classes, h, w] of a picture; where it lies in the input, and its mask [height, width]."""
        view, mask = truth
        for top, found in classes_of_pixels(outputs[0], view, self._size):
            wanted = mask[top : top + len(found)]
            judged = (wanted != IGNORED) & (found >= 0)
            pairs = wanted[judged].astype(np.int64) * self._classes + found[judged]
            confusion = np.bincount(pairs, minlength=self._classes**2).reshape(self._classes, -1)
            both = confusion.diagonal()
            self._counts[image] += [both, confusion.sum(0) + confusion.sum(1) - both]

    def values(self, weights: np.ndarray | None = None) -> np.ndarray:
        counted = np.ones(self.images) if weights is None else weights
        both, union = np.tensordot(counted, self._counts, 1)
        return np.array([(both[union > 0] / union[union > 0]).mean() if union.any() else np.nan])


def classes_of_pixels(logits: Tensor, view: View, size: tuple[int, int]) -> Iterator[tuple[int, np.ndarray]]:
    """First row, and the best class of each pixel [rows, width] of the picture: bilinear between the logits, which
    cover the input of `size` (height, width) from edge to edge. -1 where the network saw nothing.
    """
    height, width = size
    x = torch.arange(view.picture[0]) + 0.5
    for top in range(0, view.picture[1], ROWS):
        y = torch.arange(top, min(top + ROWS, view.picture[1])) + 0.5
        across, down = view.to_input(x, y)
        across, down = 2 * across / width - 1, 2 * down / height - 1
        grid = torch.stack(torch.meshgrid(across, down, indexing="xy"), -1)[None]
        found = functional.grid_sample(
            logits.float(), grid.float(), "bilinear", padding_mode="border", align_corners=False
        )
        seen = (down.abs() <= 1)[:, None] & (across.abs() <= 1)[None]
        yield top, torch.where(seen, found[0].argmax(0), -1).numpy()
