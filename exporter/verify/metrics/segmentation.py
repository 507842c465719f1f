"""Labelled pictures of a segmenter: images/ with pictures, masks/ with a PNG of class numbers for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from exporter.errors import DataError, UsageError
from exporter.quantize.pictures import DECODE_ERRORS, pictures_below, some
from exporter.quantize.preprocess import View
from exporter.verify.metrics.pictures import LabelledPictures, upright_size
from exporter.verify.metrics.protocol import Model
from exporter.verify.metrics.regions import IGNORED, MeanIoU

IMAGES, MASKS = "images", "masks"
NUMBERED = ("L", "P", "1")
"""Pillow's modes of pictures whose pixels are numbers up to 255."""


class MaskedPictures(LabelledPictures):
    """A picture with the class of each pixel."""

    task = "segmentation"
    protocol = (
        f"Logits are interpolated to the picture's own pixels; pixels of {IGNORED} in the mask, and those that "
        "resize: crop cut away, do not count."
    )

    def __init__(self, source: Path, model: Model, limit: int | None) -> None:
        self._classes = _classes(model)
        super().__init__(source, pictures_below(source / IMAGES), model.preprocess, limit)
        self._masks = [(source / MASKS / name).with_suffix(".png") for name in self.names]
        faults = (_fault(mask, picture) for mask, picture in zip(self._masks, self.files, strict=True))
        wrong = [f"{MASKS}/{mask.name}  {fault}" for mask, fault in zip(self._masks, faults, strict=True) if fault]
        if wrong:
            raise DataError(
                f"{len(wrong)} of {len(self.names)} masks in {source} do not fit",
                where=some(wrong),
                try_=f"a PNG of the picture's size and name for each, its pixels class numbers, {IGNORED}: unlabelled",
            )
        self.labels = f"{self._classes} classes"

    def metric(self) -> MeanIoU:
        """mIoU."""
        return MeanIoU(len(self.names), self._classes, self.preprocess.size)

    def inputs(self, number: int, image: Image.Image) -> Iterator[tuple[Tensor, tuple[View, np.ndarray]]]:
        yield self.preprocess.apply(image), (self.preprocess.view(*image.size), self._mask(self._masks[number]))

    def _mask(self, path: Path) -> np.ndarray:
        try:
            with Image.open(path) as image:
                mask = np.asarray(image).astype(np.uint8)
        except DECODE_ERRORS as error:
            raise DataError(f"{path} cannot be read", why=str(error), try_="replace it") from error
        if (unknown := np.setdiff1d(mask, [*range(self._classes), IGNORED])).size:
            raise DataError(
                f"{path} holds classes that the model has not",
                where=f"{', '.join(map(str, unknown[:10]))}",
                why=f"the model has 0 to {self._classes - 1}; {IGNORED} is for pixels without a label",
                try_="masks with the numbers of the model's classes",
            )
        return mask


def _classes(model: Model) -> int:
    """Of a model with one output [1, classes, height, width]."""
    shape = model.outputs[0] if len(model.outputs) == 1 else ()
    if len(shape) != 4 or shape[0] != 1 or shape[1] < 2:
        raise UsageError(
            "masks judge a segmenter",
            why=f"the model gives {' and '.join(str(list(s)) for s in model.outputs)}, not one output "
            "[1, classes, height, width]",
        )
    if model.labels and len(model.labels) != shape[1]:
        raise UsageError(
            f"the recipe has {len(model.labels)} labels, and the model {shape[1]} classes",
            try_="labels: FILE with one label a line, in the order of the model's classes",
        )
    return shape[1]


def _fault(mask: Path, picture: Path) -> str:
    """What is wrong with a mask's header, or an empty string."""
    if not mask.is_file():
        return "is missing"
    try:
        with Image.open(mask) as image:
            size, mode = image.size, image.mode
    except DECODE_ERRORS as error:
        return f"cannot be read: {error}"
    if mode not in NUMBERED:
        return f"holds {mode} colours, not class numbers"
    has = upright_size(picture)
    return "" if size == has else f"is {size[0]} x {size[1]}, its picture {has[0]} x {has[1]}"
