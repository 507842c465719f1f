"""Pictures of a report: what PyTorch, the float file and the int8 file found, side by side, as files of the bundle."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from exporter.quantize.preprocess import Preprocess
from exporter.report.pictures.draw import draw, in_words
from exporter.verify.gallery import Gallery
from exporter.verify.marks import LEAST_SCORE, Areas, Boxes, Classes, Joints
from exporter.verify.metrics.joints import CERTAIN
from exporter.verify.results import Panel, Picture

FOLDER = "pictures"
LONGEST, QUALITY = 400, 80
"""Longer side of a picture in pixels, and its JPEG quality: 15 to 35 kB each."""


def write_pictures(
    gallery: Gallery, preprocess: Preprocess, labels: Sequence[str], folder: Path
) -> tuple[Picture, ...]:
    """JPEG files in `folder`/pictures, one for each picture and what found something in it."""
    (folder / FOLDER).mkdir(exist_ok=True)
    pictures = []
    for number, shown in enumerate(gallery.shown, 1):
        seen = as_image(shown.picture, preprocess)
        inside = _inside(shown.picture, seen.size)
        panels = []
        for by in sorted(shown.found, key=_order):
            marks = shown.found[by]
            path = f"{FOLDER}/{number}-{re.sub(r'[^a-z0-9]+', '-', by.lower())}.jpg"
            drawn = draw(seen, marks, labels)
            if not isinstance(marks, Classes):  # whose bars stand below the padding
                drawn = drawn.crop((0, 0, *inside))
            drawn.save(folder / path, quality=QUALITY, optimize=True)
            panels.append(Panel(by=by, file=path, text=in_words(marks, labels)))
        pictures.append(Picture(name=shown.name, panels=tuple(panels)))
    return tuple(pictures)


def pictures_note(gallery: Gallery, credits: Mapping[str, Sequence[str]], *, random_weights: bool) -> str:
    """Where the pictures come from, what is drawn, and whose they are: `credits` are names with authors by licence."""
    kind = next((type(marks) for shown in gallery.shown for marks in shown.found.values()), None)
    drawn = {
        Boxes: f"boxes with a score of {LEAST_SCORE:g} or more",
        Joints: f"joints whose peak is above {CERTAIN:g}",
        Classes: "the three likeliest classes",
        Areas: "the best class of every place",
    }
    told = f"{gallery.source}, as the network sees them: {drawn[kind]}." if kind else ""
    if told and credits:
        whose = "; ".join(f"{', '.join(names)}: {licence}" for licence, names in credits.items())
        told += f" Cut, scaled and drawn into: {whose}."
    return f"Random weights: nothing sensible can be found. {told}" if random_weights and told else told


def as_image(picture: Tensor, preprocess: Preprocess) -> Image.Image:
    """A preprocessed picture, float32 [3, height, width], back as RGB, `LONGEST` pixels on its longer side."""
    mean, std = (np.array(values, np.float32).reshape(3, 1, 1) for values in (preprocess.mean, preprocess.std))
    pixels = ((picture.numpy() * std + mean) * 255).round().clip(0, 255).astype(np.uint8).transpose(1, 2, 0)
    image = Image.fromarray(np.ascontiguousarray(pixels))
    scale = LONGEST / max(image.size)
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)


def _inside(picture: Tensor, size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of an image of `size` without the padding on the right and below."""
    padding = (picture == picture[:, -1:, -1:]).all(0)
    rows, columns = (~padding.all(1)).nonzero(), (~padding.all(0)).nonzero()
    if not len(rows):
        return size
    height, width = padding.shape
    across, down = (int(columns[-1]) + 1) / width, (int(rows[-1]) + 1) / height
    return max(1, int(size[0] * across)), max(1, int(size[1] * down))


def _order(by: str) -> tuple[bool, bool, str]:
    """PyTorch, then float files."""
    return by != "PyTorch", not by.endswith("float32"), by
