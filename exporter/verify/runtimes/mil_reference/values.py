"""Types and constants of a MIL program, from the specification and the weight files beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from exporter.errors import UnsupportedError
from exporter.verify.runtimes.mil_reference.blobs import PACKED, Blobs, unpack
from exporter.verify.runtimes.mil_reference.package import Package, broken, inside

Value = Tensor | str | list[str]
"""What a name stands for. float16 values are float32 tensors that hold float16 numbers, see `Type.hold`."""

DATA_TYPES = {
    1: "bool", 2: "str", 10: "float16", 11: "float32", 12: "float64", 21: "int8", 22: "int16", 23: "int32",
    24: "int64", 25: "int4", 31: "uint8", 32: "uint16", 33: "uint32", 34: "uint64", 35: "uint4", 36: "uint2",
    37: "uint1", 38: "uint6", 39: "uint3",
}  # fmt: skip
"""MILSpec.DataType."""
HELD = {
    "bool": torch.bool, "float16": torch.float32, "float32": torch.float32, "float64": torch.float64,
    "int8": torch.int8, "int16": torch.int16, "int32": torch.int32, "int64": torch.int64,
    "uint8": torch.uint8, "uint16": torch.int32, "uint32": torch.int64, "uint64": torch.int64,
    "int4": torch.int8, "uint1": torch.uint8, "uint2": torch.uint8, "uint3": torch.uint8, "uint4": torch.uint8,
    "uint6": torch.uint8,
}  # fmt: skip
"""How torch holds a type: where it has none or cannot compute in it, in a wider one."""
MODEL_PATH = "@model_path/"


@dataclass(frozen=True)
class Type:
    """Element type and shape. `shape` is None where a dimension is not known before the program runs."""

    dtype: str
    shape: tuple[int, ...] | None

    def hold(self, array: np.ndarray) -> Tensor:
        """An array of this type (or one that is cast to it) as torch holds it."""
        exact = np.array(self.cast(np.asarray(array)), order="K")
        if exact.dtype.name in ("uint16", "uint32", "uint64"):  # torch has them, but computes nothing in them
            exact = exact.astype(np.int64)
        return torch.from_numpy(exact).to(HELD[self.dtype])

    def cast(self, array: np.ndarray) -> np.ndarray:
        """The array in this element type: float32 is rounded to float16."""
        with np.errstate(over="ignore"):
            return array.astype(self.array_dtype, order="K", copy=False)

    def give(self, value: Value) -> np.ndarray:
        """A held value as an array of this type."""
        return self.cast(value.numpy()) if isinstance(value, Tensor) else np.array(value)

    @property
    def array_dtype(self) -> str:
        """numpy's element type: a byte for those of less."""
        return {name: "int8" if name == "int4" else "uint8" for name in PACKED}.get(self.dtype, self.dtype)


class Constants:
    """Reads values of one package; a record that several constants share is read once."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self._files: dict[str, Blobs] = {}
        self._read: dict[tuple[str, int, Type], Tensor] = {}

    def type_of(self, declared: Any, name: str) -> Type:
        """The type of a value. Raises UnsupportedError for tuples and states."""
        kind = declared.WhichOneof("type")
        if kind == "listType":
            return self.type_of(declared.listType.type, name)
        if kind == "dictionaryType":  # of `classify`: held as its values, in the order of the classes
            return Type(self.type_of(declared.dictionaryType.valueType, name).dtype, None)
        if kind != "tensorType" or declared.tensorType.dataType not in DATA_TYPES:
            raise UnsupportedError(f"the reference executor has no type for {name}", why=f"it is {kind}")
        tensor = declared.tensorType
        sizes = [d.constant.size if d.WhichOneof("dimension") == "constant" else None for d in tensor.dimensions]
        known = None if None in sizes or tensor.rank < 0 else tuple(int(s) for s in sizes if s is not None)
        return Type(DATA_TYPES[tensor.dataType], known)

    def value(self, stored: Any, name: str) -> Value:
        """A constant. Raises DataError where the file does not hold what it says."""
        declared = self.type_of(stored.type, name)
        if stored.WhichOneof("value") == "blobFileValue":
            blob = stored.blobFileValue
            key = (blob.fileName, int(blob.offset), declared)
            if key not in self._read:
                self._read[key] = self._from_file(*key, name)
            return self._read[key]
        immediate = stored.immediateValue
        if immediate.WhichOneof("value") == "list":
            values = [self.value(each, name) for each in immediate.list.values]
            return [v for v in values if isinstance(v, str)] if declared.dtype == "str" else _stacked(values)
        return self._immediate(immediate.tensor, declared, name)

    def _immediate(self, stored: Any, declared: Type, name: str) -> Value:
        kind = stored.WhichOneof("value")
        if kind is None:
            raise self._wrong(name, "it is empty")
        values = getattr(stored, kind).values
        if declared.dtype == "str":
            texts = [str(text) for text in values]
            return texts[0] if declared.shape == () and texts else texts
        if kind == "bytes":
            raw = np.frombuffer(values, np.uint8)
            if declared.dtype in PACKED:
                array = unpack(raw, declared.dtype, _count(declared, raw.size * 8 // PACKED[declared.dtype]))
            else:
                width = np.dtype(declared.dtype).itemsize
                if raw.size % width:
                    raise self._wrong(name, f"it holds {raw.size} bytes of {declared.dtype}")
                array = raw.view(np.dtype(declared.dtype).newbyteorder("<"))
        else:
            array = np.asarray(values)
        return self._shaped(array, declared, name)

    def _from_file(self, file: str, offset: int, declared: Type, name: str) -> Tensor:
        if file not in self._files:
            if not file.startswith(MODEL_PATH):
                raise self._wrong(name, f"it lies in {file}, which is not in the package")
            path = self._package.folder / file.removeprefix(MODEL_PATH)
            inside(self._package.path, path)
            self._files[file] = Blobs(path)
        dtype, array = self._files[file].read(offset)
        if dtype != declared.dtype:
            raise self._wrong(name, f"it is {declared.dtype} in the program and {dtype} in {file}")
        return self._shaped(array, declared, name)

    def _shaped(self, array: np.ndarray, declared: Type, name: str) -> Tensor:
        if declared.shape is None or array.size != _count(declared, array.size):
            raise self._wrong(name, f"it holds {array.size} values, its shape is {declared.shape}")
        return declared.hold(array.reshape(declared.shape))

    def _wrong(self, name: str, why: str) -> Exception:
        return broken(self._package.path, f"constant {name}: {why}")


def _count(declared: Type, otherwise: int) -> int:
    return otherwise if declared.shape is None else int(np.prod(declared.shape, dtype=np.int64))


def _stacked(values: list[Value]) -> Tensor:
    return torch.stack([value for value in values if isinstance(value, Tensor)])
