"""What the training loop knows of a task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.demo.scenes import Scene, Split, Task, scene
from exporter.build.registry import IMAGENET_MEAN, IMAGENET_STD

VALIDATED = 160
"""Validation pictures of a score."""


class Lesson:
    """A task for a network of one input size: batches with their truth, a loss, a score.

    Training pictures are drawn once and seen several times, each time mirrored, turned or recoloured otherwise.
    """

    task: ClassVar[Task]

    def __init__(self, model: nn.Module, size: tuple[int, int], count: int) -> None:
        self.size = size
        self.scenes = draw(self.task, "train", count, self.scene_size)
        self.validation = draw(self.task, "validation", VALIDATED, self.scene_size)

    @property
    def scene_size(self) -> tuple[int, int] | None:
        """Height and width of the pictures; None is the task's own."""
        return self.size

    def batch(self, rng: np.random.Generator, count: int) -> tuple[Tensor, Any]:
        """Normalised pictures [N, 3, H, W] and what `loss` takes as their truth."""
        chosen = rng.integers(len(self.scenes), size=count)
        pictures, truths = zip(*(self.varied(self.scenes[i], rng) for i in chosen), strict=True)
        return normalised(np.stack([np.ascontiguousarray(p[..., rng.permutation(3)]) for p in pictures])), truths

    def varied(self, seen: Scene, rng: np.random.Generator) -> tuple[np.ndarray, Any]:
        """A training picture [H, W, 3] of the input's size, and its truth."""
        raise NotImplementedError

    def loss(self, outputs: Any, truths: Sequence[Any]) -> Tensor:
        """One number to bring down."""
        raise NotImplementedError

    def score(self, model: nn.Module) -> str:
        """How good a model in eval mode is on the validation pictures, in words."""
        raise NotImplementedError


def normalised(pictures: np.ndarray) -> Tensor:
    """uint8 [N, H, W, 3] -> float32 [N, 3, H, W] as the recipes' preprocessing has it."""
    x = torch.from_numpy(pictures).float().div_(255)
    return ((x - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)).permute(0, 3, 1, 2)


def draw(task: Task, split: Split, count: int, size: tuple[int, int] | None) -> list[Scene]:
    """The first pictures of a split, drawn by all processors."""
    with ProcessPoolExecutor() as pool:
        return list(pool.map(partial(_scene, task, split, size), range(count), chunksize=32))


def _scene(task: Task, split: Split, size: tuple[int, int] | None, index: int) -> Scene:
    return scene(task, split, index, size)


def singly(model: nn.Module, pictures: Tensor, at_once: int = 32) -> Iterator[Any]:
    """The outputs for each picture, with a batch of one."""
    from torch.utils._pytree import tree_map

    with torch.no_grad():
        for part in pictures.split(at_once):
            outputs = model(part)
            for i in range(len(part)):
                yield tree_map(lambda x, i=i: x[i : i + 1], outputs)
