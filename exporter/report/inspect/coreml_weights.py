"""The weight files of a .mlpackage, by what its operations use them for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from exporter.verify.runtimes.mil_reference.blobs import Blobs
from exporter.verify.runtimes.mil_reference.package import Package, inside
from exporter.verify.runtimes.mil_reference.values import MODEL_PATH

COMPRESSED = "constexpr_"
"""Operations of this prefix turn stored weights into floats when the file is compiled."""
KERNEL_PARAMETERS = {
    "conv": ("weight",), "conv_transpose": ("weight",), "linear": ("weight",), "matmul": ("x", "y"), "gather": ("x",),
}  # fmt: skip
DATA = ("quantized_data", "data", "indices", "nonzero_data", "val", "x")
"""Parameters that hold the elements themselves; others hold scales, tables and masks."""
Records = dict[tuple[str, int], tuple[str, int]]
"""File and offset -> dtype and number of elements."""


class Weights:
    """Records by place, each counted once. Raises DataError for one that is not whole."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self._files: dict[str, Blobs] = {}
        self._kernels: Records = {}
        self._others: Records = {}

    def add(self, operations: Sequence[Any]) -> None:
        """Those of one program's operations."""
        kernels = {
            binding.name
            for operation in operations
            for parameter in KERNEL_PARAMETERS.get(operation.type, ())
            for binding in operation.inputs[parameter].arguments
        }
        for operation in reversed(operations):  # a kernel's maker comes before it, and what that is made from
            for parameter, value, name in _values(operation):
                beside = operation.type.startswith(COMPRESSED) and parameter not in DATA
                is_kernel = not beside and any(output.name in kernels for output in operation.outputs)
                if value is not None:
                    self._count(value, self._kernels if is_kernel else self._others)
                elif is_kernel and (operation.type.startswith(COMPRESSED) or operation.type == "cast"):
                    kernels.add(name)

    def _count(self, value: Any, into: Records) -> None:
        place = value.blobFileValue.fileName, int(value.blobFileValue.offset)
        if place[0] not in self._files:
            file = self._package.folder / place[0].removeprefix(MODEL_PATH)
            inside(self._package.path, file)
            self._files[place[0]] = Blobs(file)
        dtype, values = self._files[place[0]].read(place[1])
        into[place] = dtype, values.size

    def sizes(self) -> tuple[int, int]:
        """Bytes of kernels, and of all others."""
        others = {place: record for place, record in self._others.items() if place not in self._kernels}
        return _bytes(self._kernels), _bytes(others)

    def elements(self) -> dict[str, int]:
        """Of kernels, by dtype."""
        counts: Counter[str] = Counter()
        for dtype, number in self._kernels.values():
            counts[dtype] += number
        return dict(counts.most_common())


def _values(operation: Any) -> Iterator[tuple[str, Any, str]]:
    """Parameter, value in a weight file (or None) and name of the tensor that it takes (or none)."""
    for key, value in operation.attributes.items():
        if value.WhichOneof("value") == "blobFileValue":
            yield key, value, ""
    for key, argument in operation.inputs.items():
        for binding in argument.arguments:
            if binding.name:
                yield key, None, binding.name
            elif binding.value.WhichOneof("value") == "blobFileValue":
                yield key, binding.value, ""


def _bytes(records: Records) -> int:
    """A dtype's name ends in its bits."""
    return sum(number * int(re.sub(r"\D", "", dtype)) for dtype, number in records.values()) // 8
