"""From a picture to the model's input: one declaration for calibration, evaluation and the files' metadata."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from exporter.errors import DataError

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
Positive = Annotated[int, Field(gt=0)]
Unit = Annotated[float, Field(ge=0, le=1)]
Spread = Annotated[float, Field(gt=0)]
T = TypeVar("T", bound=Any)


@dataclass(frozen=True)
class View:
    """Where a picture lies in the model's input: input = picture * scale - offset, along x and y, in pixels."""

    picture: tuple[int, int]
    """Width and height of the upright picture."""
    scale: tuple[float, float]
    offset: tuple[int, int]

    def to_picture(self, x: T, y: T) -> tuple[T, T]:
        """Points of the input -> points of the picture."""
        return (x + self.offset[0]) / self.scale[0], (y + self.offset[1]) / self.scale[1]

    def to_input(self, x: T, y: T) -> tuple[T, T]:
        """Points of the picture -> points of the input."""
        return x * self.scale[0] - self.offset[0], y * self.scale[1] - self.offset[1]


class Preprocess(BaseModel):
    """Resize, scale to 0..1, then `(x - mean) / std` per RGB channel.

    `resize` is one of
    - `stretch`: to `size`, whatever the aspect (Lite-HRNet: the person's box was cut to the aspect before);
    - `crop`: keep the aspect, make the picture just cover `size / crop_fraction`, cut `size` from the centre
      (FasterNet bicubic 0.9, CSPNet bilinear 0.887);
    - `letterbox`: keep the aspect, fit inside `size`, paste top-left, pad right and bottom with `fill` (EfficientDet).
    `size` is (height, width) in pixels. `mean`, `std` and `fill` are RGB in units of 0..1; `fill` None pads with the
    mean colour, exactly 0 after normalising. The filters are Pillow's, antialiased when they shrink.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: tuple[Positive, Positive]
    resize: Literal["stretch", "crop", "letterbox"] = "stretch"
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bilinear"
    crop_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[Spread, Spread, Spread] = (0.229, 0.224, 0.225)
    fill: tuple[Unit, Unit, Unit] | None = None

    @model_validator(mode="after")
    def _unused(self) -> Self:
        """A setting that `resize` would ignore is a mistake, not a preference."""
        if self.crop_fraction != 1 and self.resize != "crop":
            raise ValueError(f"crop_fraction needs resize: crop, not {self.resize}")
        if self.fill is not None and self.resize != "letterbox":
            raise ValueError(f"fill needs resize: letterbox, not {self.resize}")
        return self

    def apply(self, image: Image.Image) -> Tensor:
        """The model's input for one picture of any Pillow mode: float32 [3, height, width], RGB.

        NumPy rather than torch, so that a decoding thread takes no intra-op threads from the model.
        Raises DataError for a picture without 8- or 16-bit pixels, OSError where Pillow cannot decode it.
        """
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        x = (np.asarray(self._resized(rgb(image)), dtype=np.float32) / 255 - mean) / std
        canvas = np.empty((3, *self.size), dtype=np.float32)
        canvas[:] = ((np.array(self.fill or self.mean, np.float32) - mean) / std).reshape(3, 1, 1)
        canvas[:, : x.shape[0], : x.shape[1]] = x.transpose(2, 0, 1)
        return torch.from_numpy(canvas)

    def view(self, width: int, height: int) -> View:
        """Where an upright picture of that size comes to lie."""
        to_width, to_height = self._target(width, height)
        return View((width, height), (to_width / width, to_height / height), self._corner(to_width, to_height))

    def _corner(self, width: int, height: int) -> tuple[int, int]:
        """Left and top of what is cut out of a resized picture."""
        if self.resize != "crop":
            return 0, 0
        return round((width - self.size[1]) / 2), round((height - self.size[0]) / 2)

    def _target(self, width: int, height: int) -> tuple[int, int]:
        """Width and height after resizing, before cropping or padding (rounded down, as effdet and timm do)."""
        to_height, to_width = self.size
        if self.resize == "stretch":
            return to_width, to_height
        if self.resize == "letterbox":
            ratio = min(to_width / width, to_height / height)
            return min(to_width, max(1, int(width * ratio))), min(to_height, max(1, int(height * ratio)))
        cover_width, cover_height = int(to_width / self.crop_fraction), int(to_height / self.crop_fraction)
        if cover_width * height >= cover_height * width:
            return cover_width, max(cover_height, int(cover_width * height / width))
        return max(cover_width, int(cover_height * width / height)), cover_height

    def _resized(self, image: Image.Image) -> Image.Image:
        image = image.resize(self._target(*image.size), FILTERS[self.interpolation])
        if self.resize != "crop":
            return image
        (height, width), (left, top) = self.size, self._corner(*image.size)
        return image.crop((left, top, left + width, top + height))


def rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB, upright by its EXIF orientation. Transparent parts show white; 16-bit grey keeps its upper byte."""
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise DataError("a picture holds 32-bit float pixels, whose range is unknown", try_="save it as 8-bit PNG")
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion clips at 255
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
