"""weight.bin: a header, then 64-byte aligned records, each a metadata block and the raw data.

Source: MILBlob StorageFormat.hpp and BlobDataType.hpp in apple/coremltools (mlmodel/src/MILBlob/Blob). All numbers are
little-endian. Header: u32 count, u32 version (2), 56 reserved bytes. Metadata, at the offset that the program gives:
u32 sentinel 0xDEADBEEF, u32 type, u64 size in bytes, u64 offset of the data, u64 padding in bits, 32 reserved bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from exporter.errors import DataError

HEADER = struct.Struct("<II56x")
METADATA = struct.Struct("<IIQQQ32x")
SENTINEL, VERSION, ALIGNMENT = 0xDEADBEEF, 2, 64
TYPES = {
    1: "float16", 2: "float32", 3: "uint8", 4: "int8", 6: "int16", 7: "uint16", 8: "int4", 9: "uint1", 10: "uint2",
    11: "uint4", 12: "uint3", 13: "uint6", 14: "int32", 15: "uint32",
}  # fmt: skip
PACKED = {"int4": 4, "uint1": 1, "uint2": 2, "uint3": 3, "uint4": 4, "uint6": 6}
"""Types of less than a byte, and their bits."""


class Blobs:
    """One file, mapped; records are read as they are asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._bytes = np.memmap(path, np.uint8, mode="r")
        except (OSError, ValueError) as error:  # ValueError: an empty file
            raise self._broken(getattr(error, "strerror", None) or str(error)) from error
        if self._bytes.size < HEADER.size:
            raise self._broken("it is shorter than its header")
        self.count, version = HEADER.unpack(self._bytes[: HEADER.size].tobytes())
        if version != VERSION:
            raise self._broken(f"it is of version {version}, not {VERSION}")

    def read(self, offset: int) -> tuple[str, np.ndarray]:
        """The type of the record whose metadata is at `offset`, and its values in one row.

        Types of less than a byte are unpacked (lowest bits first) into uint8 or int8. Raises DataError.
        """
        name, size, start, padding = self._metadata(offset)
        raw = self._bytes[start : start + size]
        if name in PACKED:
            return name, unpack(raw, name, (size * 8 - padding) // PACKED[name])
        dtype = np.dtype(name).newbyteorder("<")
        if size % dtype.itemsize:
            raise self._broken(f"the record at byte {offset} holds {size} bytes of {name}")
        return name, raw.view(dtype)

    def offsets(self) -> Iterator[int]:
        """Where the records' metadata lie, in the order of the file."""
        offset = HEADER.size
        for _ in range(self.count):
            _, size, start, _ = self._metadata(offset)
            yield offset
            offset = -(-(start + size) // ALIGNMENT) * ALIGNMENT

    def _metadata(self, offset: int) -> tuple[str, int, int, int]:
        """Type, size, start and padding of the record at `offset`, all of them checked."""
        if offset % ALIGNMENT or not 0 <= offset <= self._bytes.size - METADATA.size:
            raise self._broken(f"it has no record at byte {offset} of {self._bytes.size}")
        stored = self._bytes[offset : offset + METADATA.size].tobytes()
        sentinel, code, size, start, padding = METADATA.unpack(stored)
        if sentinel != SENTINEL:
            raise self._broken(f"the record at byte {offset} begins with {sentinel:#010x}, not {SENTINEL:#010x}")
        if code not in TYPES:
            raise self._broken(f"the record at byte {offset} is of the unknown type {code}")
        if start % ALIGNMENT or start < offset + METADATA.size or start + size > self._bytes.size:
            raise self._broken(f"the record at byte {offset} ends behind the file's {self._bytes.size} bytes")
        return TYPES[code], size, start, padding

    def _broken(self, why: str) -> DataError:
        return DataError(f"{self.path} is not a whole weight file", why=why, try_="copy the package again")


def unpack(raw: np.ndarray, name: str, count: int) -> np.ndarray:
    """`count` values of a type such as `int4` from packed bytes, lowest bits first."""
    width = PACKED[name]
    bits = np.unpackbits(raw, bitorder="little", count=count * width).reshape(count, width)
    values = (bits << np.arange(width, dtype=np.uint8)).sum(1, dtype=np.uint8)
    return values if name.startswith("u") else ((values ^ (1 << (width - 1))).astype(np.int8) - (1 << (width - 1)))
