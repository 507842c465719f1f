"""The model's declared inputs and outputs: arrays and pictures."""

from __future__ import annotations

from typing import Any

import numpy as np

from exporter.errors import UnsupportedError
from exporter.verify.runtimes.litert import TensorInfo
from exporter.verify.runtimes.mil_reference.program import Program

ARRAYS = {0x10000 | 16: "float16", 0x10000 | 32: "float32", 0x10000 | 64: "float64", 0x20000 | 32: "int32",
          0x20000 | 8: "int8"}  # fmt: skip
"""ArrayFeatureType.ArrayDataType."""
GRAYSCALE, RGB, BGR = 10, 20, 30
"""ImageFeatureType.ColorSpace."""


def input_info(feature: Any) -> TensorInfo:
    """What to feed: an array as declared, a picture as uint8 [H, W, 3] RGB or [H, W] grey, a number as float64."""
    kind = feature.type.WhichOneof("Type")
    if kind == "multiArrayType":
        array = feature.type.multiArrayType
        return TensorInfo(feature.name, tuple(array.shape), ARRAYS[array.dataType])
    if kind == "imageType" and feature.type.imageType.colorSpace in (GRAYSCALE, RGB, BGR):
        image = feature.type.imageType
        colours = () if image.colorSpace == GRAYSCALE else (3,)
        return TensorInfo(feature.name, (image.height, image.width, *colours), "uint8")
    if kind == "doubleType":
        return TensorInfo(feature.name, (), "float64")
    raise UnsupportedError(f"the reference executor cannot feed input {feature.name}, a {kind}")


def output_info(feature: Any, program: Program) -> TensorInfo:
    """What comes out; where the description leaves a shape open, the program's."""
    kind, declared = feature.type.WhichOneof("Type"), program.types.get(feature.name)
    shape = (declared.shape if declared else None) or ()
    if kind != "multiArrayType":  # a label, and the probabilities of all of them
        return TensorInfo(feature.name, shape, declared.dtype if declared else str(kind))
    array = feature.type.multiArrayType
    return TensorInfo(feature.name, tuple(array.shape) or shape, ARRAYS[array.dataType])


def from_feature(feature: Any, array: np.ndarray) -> np.ndarray:
    """What the program receives for an input: of a picture its pixels, 0 to 255, [1, C, H, W] in the declared order."""
    if feature.type.WhichOneof("Type") != "imageType":
        return array
    if feature.type.imageType.colorSpace == GRAYSCALE:
        return array[None, None].astype(np.float32)
    ordered = array[..., ::-1] if feature.type.imageType.colorSpace == BGR else array
    return np.ascontiguousarray(ordered.transpose(2, 0, 1)[None], np.float32)
