"""One thing in clutter: which texture, which shape."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.demo.lesson import Lesson, normalised, singly
from benchmarks.demo.scenes import Scene

SMOOTHING = 0.1


class Classification(Lesson):
    """Cross-entropy with label smoothing (Szegedy et al., CVPR 2016, §7)."""

    task = "classification"

    def varied(self, seen: Scene, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        return np.rot90(seen.pixels[:, :: rng.choice((-1, 1))], rng.integers(4)), seen.truth

    def loss(self, outputs: Tensor, truths: Sequence[int]) -> Tensor:
        return F.cross_entropy(outputs, torch.tensor(truths), label_smoothing=SMOOTHING)

    def score(self, model: nn.Module) -> str:
        outputs = singly(model, normalised(np.stack([s.pixels for s in self.validation])))
        right = [int(y.argmax()) == s.truth for y, s in zip(outputs, self.validation, strict=True)]
        return f"top-1 {np.mean(right):.3f}"
