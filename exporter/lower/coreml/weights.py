"""Constants: values inside the program, or records of weight.bin; and weights as int8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from exporter.ir.quant import LIMITS, QuantParams, fp16_grid
from exporter.lower.coreml.schema import MIL, BlobWriter

FILE = "weight.bin"
TYPES = {
    "float16": MIL.FLOAT16, "float32": MIL.FLOAT32, "int8": MIL.INT8, "uint8": MIL.UINT8, "int32": MIL.INT32,
    "bool": MIL.BOOL, "string": MIL.STRING,
}  # fmt: skip
_IN_FILE = ("float16", "float32", "int8", "uint8")
_FEWEST = 10
"""coremltools stores arrays from 10 elements on outside the program; int32 ones since iOS 18."""


def tensor_type(dtype: str, shape: tuple[int, ...]) -> Any:
    """A ValueType of fixed shape."""
    found = MIL.ValueType()
    found.tensorType.dataType = TYPES[dtype]
    found.tensorType.rank = len(shape)
    for size in shape:
        found.tensorType.dimensions.add().constant.size = size
    return found


def immediate(array: np.ndarray | str) -> Any:
    """A Value that holds `array`; numbers of 8 and 16 bits as bytes, little-endian."""
    if isinstance(array, str):
        value = MIL.Value(type=tensor_type("string", ()))
        value.immediateValue.tensor.strings.values.append(array)
        return value
    value = MIL.Value(type=tensor_type(str(array.dtype), array.shape))
    tensor = value.immediateValue.tensor
    if array.dtype.itemsize < 4 and array.dtype != bool:
        tensor.bytes.values = np.ascontiguousarray(array).tobytes()
    else:
        fields = {"float32": tensor.floats, "int32": tensor.ints, "bool": tensor.bools}
        fields[str(array.dtype)].values.extend(array.ravel().tolist())
    return value


class Weights:
    """weight.bin, written record by record; equal contents are stored once."""

    def __init__(self, folder: Path, min_os: int) -> None:
        self._writer = BlobWriter(str(folder / FILE))
        self._types = (*_IN_FILE, "int32") if min_os >= 18 else _IN_FILE
        self._offsets: dict[tuple[str, bytes], int] = {}

    def value(self, array: np.ndarray | str) -> Any:
        """A Value: `array` itself, or where it is in the file."""
        if isinstance(array, str) or array.size < _FEWEST or str(array.dtype) not in self._types:
            return immediate(array)
        key = str(array.dtype), np.ascontiguousarray(array).tobytes()
        if key not in self._offsets:
            self._offsets[key] = self._write(np.frombuffer(key[1], array.dtype))
        value = MIL.Value(type=tensor_type(key[0], array.shape))
        value.blobFileValue.fileName = f"@model_path/weights/{FILE}"
        value.blobFileValue.offset = self._offsets[key]
        return value

    def _write(self, flat: np.ndarray) -> int:
        kind = str(flat.dtype)
        if kind == "float16":
            return int(self._writer.write_fp16_data(flat.view(np.uint16)))
        write = getattr(self._writer, "write_float_data" if kind == "float32" else f"write_{kind}_data")
        return int(write(flat))


def per_channel(weight: np.ndarray, axis: int) -> tuple[np.ndarray, QuantParams]:
    """Codes in [-127, 127] and one scale for each slice along `axis`: the smallest of the float16 grid that fits."""
    others = tuple(d for d in range(weight.ndim) if d != axis)
    largest = np.abs(weight).max(axis=others)
    params = QuantParams(tuple(fp16_grid(float(m) / LIMITS["int8"][1], up=True) for m in largest), axis=axis)
    shape = [-1 if d == axis else 1 for d in range(weight.ndim)]
    codes = np.round(weight / np.array(params.scale, np.float32).reshape(shape))
    return codes.clip(-127, 127).astype(np.int8), params
