"""What a metric is, what a labelled set is, and what must be known of a model to judge it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

from exporter.quantize.preprocess import Preprocess

Tensors = Sequence[Tensor]


@dataclass(frozen=True)
class Model:
    """What a metric must know of a model, beside what its files give.

    `inputs` and `outputs` are shapes in the model's order; `labels` name the classes or joints (empty: unnamed);
    `module` holds a detector's anchors and the meaning of its heads, whatever its weights.
    """

    preprocess: Preprocess
    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]
    labels: tuple[str, ...] = ()
    module: nn.Module | None = None


@dataclass(frozen=True)
class Labelled:
    """One input of the model with its label. `image` counts the set's pictures; one may give several inputs, as each
    person does.
    """

    image: int
    sample: tuple[Tensor, ...]
    """float32 [1, 3, height, width], preprocessed."""
    truth: Any
    """What the set's own metric takes."""


class Metric(Protocol):
    """Takes in one file's outputs with the label of each, keeps little of every image, and tells its figures."""

    names: tuple[str, ...]
    """Of the figures; the first is the one that gates judge."""
    images: int
    interval: str
    """How their intervals come about: Wilson or bootstrap."""

    def add(self, image: int, outputs: Tensors, truth: Any) -> None:
        """Take in one input's outputs: float32 in PyTorch's axis order, [1, ...] each."""
        ...

    def values(self, weights: np.ndarray | None = None) -> np.ndarray:
        """The figures, 0 to 1 each; NaN where nothing was labelled. `weights` [images] counts every image so often."""
        ...


class LabelledSet(Protocol):
    """Labelled pictures, in the same order on every run; read ahead, one at a time."""

    task: str
    """classification, detection, keypoints or segmentation."""
    source: str
    names: tuple[str, ...]
    """One for each picture."""
    available: int
    """Pictures before the limit."""
    labels: str
    """How many of what is labelled, in words."""
    protocol: str
    """How the figures come about, in a sentence."""

    def metric(self) -> Metric:
        """A new one for each file that is judged."""
        ...

    def __iter__(self) -> Iterator[Labelled]: ...

    def digests(self) -> dict[str, str]:
        """Name -> sha256 of the content, of every picture read so far."""
        ...
