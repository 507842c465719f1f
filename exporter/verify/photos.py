"""What is fed to a bundle's file on every device: its golden input, and photographs as the file takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError
from torch import Tensor

from exporter.errors import DataError, UsageError
from exporter.quantize.data import default_samples_dir, load_samples
from exporter.quantize.preprocess import Preprocess
from exporter.verify.borders import Border

Feed = Mapping[str, np.ndarray]
PHOTOS = 4
"""Of the project's own: those that the default calibration holds out."""


def photos(folder: Path, source: str | None = None) -> list[Tensor]:
    """Photographs as the bundle's preprocess.json makes them, float32 [1, 3, H, W]; none for a model that takes none.

    `source` is a number of the project's own (None: `PHOTOS`), or a folder. Raises UsageError for one where the model
    takes no pictures, DataError for pictures that cannot be read.
    """
    path = folder / "preprocess.json"
    if not path.is_file():
        if source is not None:
            raise UsageError(f"--images {source}: the model of {folder} takes no pictures", try_="without --images")
        return []
    try:
        preprocess = Preprocess.model_validate_json(path.read_text())
    except (OSError, ValidationError) as error:
        raise DataError(f"{path} is damaged", why=str(error).splitlines()[0], try_="export again") from error
    own = source is None or source.isdecimal()
    samples = load_samples(
        default_samples_dir() if own else str(source), preprocess, int(source or PHOTOS) if own else None
    )
    return [picture for (picture,) in samples.feeds()]


def feeds(golden: Feed, photos: Sequence[Tensor], inputs: Sequence[Border], file: str) -> list[Feed]:
    """The golden input, then the photographs in the file's storage order and type; none is fed twice."""
    found = [golden]
    for photo in photos:
        (border,) = inputs
        array = as_stored(photo, border, file)
        if not any(np.array_equal(array, seen[border.info.name]) for seen in found):
            found.append({border.info.name: array})
    return found


def as_stored(photo: Tensor, border: Border, file: str) -> np.ndarray:
    """A picture, float32 [1, 3, H, W], in the storage order and type of a file's input."""
    info = border.info
    shapes = {tuple(photo.shape): photo, (1, *photo.shape[2:], photo.shape[1]): photo.permute(0, 2, 3, 1)}
    if info.shape not in shapes:
        raise DataError(
            f"{file} takes {list(info.shape)}, and preprocess.json makes {list(photo.shape)}", try_="export again"
        )
    stored = shapes[info.shape]
    if info.dtype == "float32":
        return np.ascontiguousarray(stored.numpy())
    if border.params is None or border.params.dtype != info.dtype:
        raise DataError(f"{file} takes {info.dtype} at {info.name}, and does not say at which scale")
    return np.ascontiguousarray(border.params.quantize(stored).numpy())
