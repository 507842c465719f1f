"""The body of a MIL program while it is written: operations in order, names, constant parameters. It knows no graph."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from exporter.lower.coreml.names import fresh
from exporter.lower.coreml.schema import MIL
from exporter.lower.coreml.weights import Weights, immediate, tensor_type

SHORT = {"float16": "fp16", "float32": "fp32"}


@dataclass(frozen=True)
class Tensor:
    """A variable of the program."""

    name: str
    dtype: str
    shape: tuple[int, ...]


Parameter = Tensor | Sequence[Tensor] | np.ndarray | str | bool | int | float | tuple[int, ...]


class Block:
    """Operations; large constants go into `weights`. `taken` are names that are kept for others."""

    def __init__(self, weights: Weights, taken: Collection[str]) -> None:
        self.weights = weights
        self.operations: list[Any] = []
        self._taken = set(taken)
        self._parameters: dict[tuple[str, str, bytes, tuple[int, ...]], Tensor] = {}

    def add(self, kind: str, result: Tensor, /, **parameters: Parameter) -> Tensor:
        """Append one operation; parameters that are no tensors become constants."""
        operation = MIL.Operation(type=kind)
        floats = result.dtype if result.dtype in SHORT else "float32"
        for key, parameter in parameters.items():
            for part in parameter if isinstance(parameter, list) else [parameter]:
                tensor = part if isinstance(part, Tensor) else self.parameter(key, part, floats)
                operation.inputs[key].arguments.add().name = tensor.name
        return self.append(operation, result)

    def parameter(self, key: str, content: Any, floats: str) -> Tensor:
        """A constant parameter, Python's floats in that type; equal ones of the same name are one constant."""
        array = content if isinstance(content, str) else _array(content, floats)
        kind = "string" if isinstance(array, str) else str(array.dtype)
        shape = () if isinstance(array, str) else array.shape
        data = array.encode() if isinstance(array, str) else array.tobytes()
        if (found := self._parameters.get((key, kind, data, shape))) is None:
            found = Tensor(self.fresh(_parameter_name(key, array)), kind, shape)
            self.const(found, array)
            self._parameters[key, kind, data, shape] = found
        return found

    def fresh(self, name: str) -> str:
        """An identifier that nothing bears yet."""
        unique = fresh(name, self._taken)
        self._taken.add(unique)
        return unique

    def append(self, operation: Any, result: Tensor) -> Tensor:
        """Append one operation that has its parameters."""
        operation.attributes["name"].CopyFrom(immediate(result.name))
        operation.outputs.add(name=result.name, type=tensor_type(result.dtype, result.shape))
        self.operations.append(operation)
        return result

    def const(self, result: Tensor, array: np.ndarray | str) -> Tensor:
        """Append a constant."""
        operation = MIL.Operation(type="const")
        operation.attributes["val"].CopyFrom(self.weights.value(array))
        return self.append(operation, result)


def _array(content: Any, dtype: str) -> np.ndarray:
    """A Python constant as MIL has it: int32, bool, or a float of that type."""
    if isinstance(content, np.ndarray | np.generic):
        return np.asarray(content)
    array = np.array(content)
    return array if array.dtype == bool else array.astype(np.int32 if array.dtype.kind == "i" else dtype)


def _parameter_name(key: str, array: np.ndarray | str) -> str:
    """Short contents are in the name."""
    if isinstance(array, str):
        return f"{key}_{array}"
    if array.dtype.kind == "f" or array.size > 8:
        return key
    return "_".join([key, *(str(n).replace("-", "minus") for n in array.ravel().tolist())])
