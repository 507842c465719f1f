"""Which models there are: `@register_model` puts a builder under its command-line name, facts beside it as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from exporter.errors import UsageError, nearest

Task = Literal["detection", "classification", "pose", "segmentation", "features"]
Channels = tuple[float, float, float]

IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
IMAGENET_STD: Channels = (0.229, 0.224, 0.225)
HALF: Channels = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Checkpoint:
    """Published weights and the preprocessing they were trained with.

    `sha256` is the start (at least 8 digits) of the file's sha256 in hexadecimal, as PyTorch release files carry it in
    their names; None where nothing is published that a download could be checked with. `mean` and `std` are per
    channel, RGB, for pixels in 0..1.
    """

    url: str
    sha256: str | None
    mean: Channels = IMAGENET_MEAN
    std: Channels = IMAGENET_STD
    metric: str = ""


@dataclass(frozen=True)
class ModelInfo:
    """Facts about one model, as published or measured on the official implementation.

    image_size is (H, W) in pixels; mean and std are per channel, RGB, for pixels in 0..1; params counts trainable
    values with `num_classes` classes (0: a backbone without a head); gmacs counts multiply-accumulates of the
    convolutions at image_size, in 10^9. `checkpoints` maps a weights name such as "coco" to its file.
    """

    name: str
    task: Task
    image_size: tuple[int, int]
    num_classes: int
    params: int
    gmacs: float
    mean: Channels = IMAGENET_MEAN
    std: Channels = IMAGENET_STD
    metric: str = ""
    source: str = ""
    licence: str = ""
    checkpoints: Mapping[str, Checkpoint] = field(default_factory=dict)

    @property
    def official(self) -> bool:
        """Whether its authors publish weights under this very architecture and naming."""
        return bool(self.checkpoints)


# Takes the image size (H, W) and the number of classes.
Builder = Callable[[tuple[int, int], int], nn.Module]

_models: dict[str, tuple[ModelInfo, Builder]] = {}


def register_model(info: ModelInfo) -> Callable[[Builder], Builder]:
    """Decorate `builder(image_size, num_classes) -> nn.Module` to make `info.name` a model of the command line."""

    def register(builder: Builder) -> Builder:
        if info.name in _models:
            raise ValueError(f"model {info.name} is registered twice")
        _models[info.name] = (info, builder)
        return builder

    return register


def list_models() -> list[ModelInfo]:
    """Facts of every registered model, in the order of registration: by family, then by size."""
    return [info for info, _ in _models.values()]


def model_info(name: str) -> ModelInfo:
    """Facts of one model. UsageError with the nearest name if there is none of that name."""
    return _find(name)[0]


def _find(name: str) -> tuple[ModelInfo, Builder]:
    if name not in _models:
        raise UsageError(
            f"there is no model named {name!r}",
            why=nearest(name, _models),
            try_="edge-export list, which prints every model",
        )
    return _models[name]


def build_model(
    name: str, image_size: int | tuple[int, int] | None = None, num_classes: int | None = None
) -> nn.Module:
    """A registered model, ready for export: eval mode, no gradients, fp32, seeded random weights.

    image_size in pixels, one side or (H, W), and num_classes default to the published ones. The weights are the same
    bytes on every call and the caller's random state is untouched; `load_weights` replaces them. Under
    `torch.device("meta")` nothing is allocated. Raises UsageError for an unknown name or an impossible size or count.
    """
    info, builder = _find(name)
    size = info.image_size if image_size is None else _as_size(name, image_size)
    classes = info.num_classes if num_classes is None else num_classes
    if num_classes is not None and not info.num_classes:
        raise UsageError(f"num_classes is {num_classes!r}", where=name, why="this model has no classes")
    if num_classes is not None and not _is_positive(num_classes):
        raise UsageError(f"num_classes is {num_classes!r}", where=name, why="it must be a whole number of at least 1")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = builder(size, classes)
    return model.eval().requires_grad_(False)


def _is_positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _as_size(name: str, image_size: object) -> tuple[int, int]:
    sides = tuple(image_size) if isinstance(image_size, (tuple, list)) else (image_size, image_size)
    if len(sides) != 2 or not all(_is_positive(side) for side in sides):
        raise UsageError(
            f"image_size is {image_size!r}",
            where=name,
            why="it must be one side or (height, width), in whole pixels of at least 1",
        )
    return sides[0], sides[1]
