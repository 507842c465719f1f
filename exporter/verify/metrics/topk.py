"""Classification: is the label among the k highest scores?"""

from __future__ import annotations

import numpy as np

from exporter.verify.metrics.protocol import Tensors


class TopK:
    """top-1, and top-5 where there are more than five classes. Of equal scores the first class goes ahead, as argmax
    has it; a label whose score is NaN is not found.
    """

    interval = "Wilson"

    def __init__(self, images: int, classes: int) -> None:
        self.images = images
        self._ks = (1, 5) if classes > 5 else (1,)
        self.names = tuple(f"top-{k}" for k in self._ks)
        self._right = np.zeros((len(self._ks), images), bool)

    def add(self, image: int, outputs: Tensors, truth: int) -> None:
        """One output of as many elements as there are classes, and the label's number."""
        scores = outputs[0].reshape(-1).numpy()
        label = scores[truth]
        ahead = int((scores > label).sum() + (scores[:truth] == label).sum() + np.isnan(scores).sum())
        self._right[:, image] = [ahead < k and not np.isnan(label) for k in self._ks]

    def values(self, weights: np.ndarray | None = None) -> np.ndarray:
        """Shares of the images."""
        weights = np.ones(self.images) if weights is None else weights
        shares: np.ndarray = self._right @ weights / weights.sum()
        return shares
