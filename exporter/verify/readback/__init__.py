"""What a saved int8 file holds, in one form for every format: parameters, integer weights, biases, constant operands.

A reader takes the file, and of the graph the names, the shapes and the storage order that say where to look; never a
number. Every number in `Stored` is the file's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from exporter.errors import UsageError
from exporter.ir.graph import Graph
from exporter.ir.quant import QuantParams


@dataclass(frozen=True)
class Params:
    """Scales and zero points as a file states them, right or wrong; `axis` only where there are several scales."""

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    dtype: str
    axis: int | None = None

    @classmethod
    def of(cls, quant: QuantParams) -> Params:
        """The same from the graph."""
        several = len(quant.scale) > 1
        return cls(quant.scale, (quant.zero_point,) * len(quant.scale), quant.dtype, quant.axis if several else None)

    def __str__(self) -> str:
        if len(self.scale) == len(self.zero_point) == 1:
            return f"{self.dtype} scale {self.scale[0]:.9g} zero point {self.zero_point[0]}"
        return f"{self.dtype} {len(self.scale)} scales, {len(self.zero_point)} zero points along axis {self.axis}"


@dataclass(frozen=True)
class Constant:
    """A constant operand in the graph's axis order: int8 or int32 codes, or, where the format has no integers for it,
    float reals (float16, float32); `params` None where the file states none.

    A convolution's weight may be wider than the graph's [O,I/g,kh,kw]: the file joins groups, zeros between them.
    """

    array: np.ndarray
    params: Params | None


Operand = tuple[str, int]
"""Name of the value that a node gives, and which of the node's inputs: 1 and 2 are a convolution's weight and bias."""


@dataclass(frozen=True)
class Stored:
    """A file read back. Names are those of the graph's values, whatever the file calls them."""

    params: Mapping[str, frozenset[Params]]
    """Activations: all that the file states for one, in as many places as it does."""
    constants: Mapping[Operand, Constant]
    """Every quantised constant that an operator reads, also those that the graph does not have."""
    between: Mapping[str, frozenset[Params]] = field(default_factory=dict)
    """Tensors that are none of the graph's, on the way to the value of that name ("" where they lead to none)."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """Values for which the format needs no tensor of their own, and why."""


def read_back(path: Path, graph: Graph) -> Stored:
    """Read the int8 file that was written from `graph`. Raises DataError for a missing, foreign or broken file,
    RuntimeUnavailable where the format's package is absent.
    """
    if path.suffix == ".tflite":
        from exporter.verify.readback.tflite import read_tflite

        return read_tflite(path, graph)
    if path.suffix == ".onnx":
        from exporter.verify.readback.onnx import read_onnx

        return read_onnx(path, graph)
    if path.suffix == ".mlpackage":
        from exporter.verify.readback.coreml import read_coreml

        return read_coreml(path, graph)
    raise UsageError(f"nothing is known of how {path.name} stores integers", try_="a .tflite, .onnx or .mlpackage")


def names_of(graph: Graph) -> dict[str, str]:
    """What a file calls the graph's values -> their names: an output's own name stands for the value's. A value that
    is returned twice has several.
    """
    outputs = dict(zip(graph.output_names, graph.outputs, strict=True))
    called = {name: value.name for name, value in outputs.items() if value.const is None}
    returned = {id(value) for value in outputs.values() if value.producer is not None}
    inner = (v.name for v in graph.values() if v.const is None and id(v) not in returned)
    return called | {name: name for name in inner}
