"""Integers of an .mlpackage: the constants of its program, whichever way the opset stores them, and weight.bin."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from exporter.ir.graph import Graph
from exporter.lower.coreml.names import names
from exporter.verify.readback import Constant, Operand, Params, Stored
from exporter.verify.runtimes.mil_reference.package import Package, broken, read_package
from exporter.verify.runtimes.mil_reference.values import Constants

STORED = {
    "constexpr_affine_dequantize": ("quantized_data", "zero_point"),
    "constexpr_blockwise_shift_scale": ("data", "offset"),
}
"""Constants of codes in iOS 17's opset and in iOS 18's: what they call the codes and their zero points."""
PLACES = {"x": 0, "y": 1, "weight": 1, "bias": 2}
"""Parameters of MIL's operations as inputs of the graph's nodes; a concat's are numbered."""
ADDED_LATER = ("linear", "conv_transpose2d")
"""Ops whose bias may be added by an operation of its own."""
CONV_TRANSPOSE = (1, 0, 2, 3)
"""conv_transpose stores its weight as [I,O,kh,kw]."""


def read_coreml(path: Path, graph: Graph) -> Stored:
    """Read the package's program; nothing runs. Biases are float reals: MIL's convolutions have no integer ones."""
    package = read_package(path)
    try:
        reader = _Reader(package, graph)
        return reader.stored()
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise broken(path, f"an operation lacks what it needs: {error!r}") from error


class _Reader:
    def __init__(self, package: Package, graph: Graph) -> None:
        self.operations, self._constants = list(_block(package).operations), Constants(package)
        self._nodes = {node.outputs[0].name: node for node in graph.nodes}
        activations = {value.name for value in graph.values() if value.const is None}
        self.names = {own: value for value, own in names(graph).items() if value in activations}
        self.makers = {output.name: operation for operation in self.operations for output in operation.outputs}
        self.readers: dict[str, list[Any]] = defaultdict(list)
        self._array = cache(lambda name: self._value(self.makers[name].attributes["val"]))
        for operation in self.operations:
            for _, _, name in _operands(operation):
                self.readers[name].append(operation)

    def stored(self) -> Stored:
        """Under the graph's names."""
        params: dict[str, frozenset[Params]] = {}
        between: dict[str, frozenset[Params]] = defaultdict(frozenset)
        for own, stated in self.stated().items():
            if own in self.names:
                params[self.names[own]] = frozenset(stated)
            else:
                between[self._leads_to(own)] |= stated
        return Stored(params, dict(self.constants()), between)

    def stated(self) -> dict[str, set[Params]]:
        """Parameters of every tensor of codes: where it is made, wherever it is read, and of what it is moved from."""
        found: dict[str, set[Params]] = defaultdict(set)
        for operation in self.operations:
            made, read = operation.outputs[0].name, {parameter: name for parameter, _, name in _operands(operation)}
            if operation.type in ("quantize", "dequantize"):
                codes = made if operation.type == "quantize" else read["input"]
                (scale,) = self._array(read["scale"]).reshape(-1).tolist()
                zero_point = int(self._array(read["zero_point"])) if "zero_point" in read else 0
                found[codes].add(Params((scale,), (zero_point,), self._dtype(codes)))
            elif "x" in read and self._dtype(made) == "int8":
                found[made] |= found[read["x"]]
        return found

    def constants(self) -> Iterator[tuple[Operand, Constant]]:
        """Of every operation on the way to a value: codes, and floats where the graph has codes, such as biases."""
        for operation in self.operations:
            for parameter, at, name in _operands(operation):
                made = self._leads_to(operation.outputs[0].name)
                kind = self.makers[name].type if name in self.makers else ""
                if kind in STORED:
                    turned = CONV_TRANSPOSE if (operation.type, parameter) == ("conv_transpose", "weight") else ()
                    place = at if parameter == "values" else PLACES.get(parameter, -1)
                    yield (made, place), self._codes(name, turned)
                elif kind == "const" and (place := self._expected(operation, parameter, at, made)) >= 0:
                    array = self._array(name)
                    yield (made, place), Constant(array.reshape(-1) if place == PLACES["bias"] else array, None)

    def _codes(self, name: str, turned: tuple[int, ...]) -> Constant:
        """iOS 17 has the constants as attributes and an axis, iOS 18 as inputs and scales of the codes' rank."""
        operation = self.makers[name]
        data, offset = STORED[operation.type]
        given = dict(operation.attributes) | {
            key: argument.arguments[0].value for key, argument in operation.inputs.items()
        }
        codes, scale = self._value(given[data]), self._value(given["scale"])
        scales = tuple(scale.reshape(-1).tolist())
        zeros = self._value(given[offset]).reshape(-1).tolist() if offset in given else [0] * len(scales)
        axis = None
        if len(scales) > 1:
            axis = int(self._value(given["axis"])) if "axis" in given else int(np.argmax(scale.shape))
        params = Params(scales, tuple(zeros), str(codes.dtype), axis if axis is None or not turned else turned[axis])
        return Constant(codes.transpose(turned) if turned else codes, params)

    def _expected(self, operation: Any, parameter: str, at: int, made: str) -> int:
        """Which input of the graph's node a float constant is, where that input is codes; -1 for other constants."""
        node = self._nodes.get(made)
        place = at if parameter == "values" else PLACES.get(parameter, -1)
        if node is not None and node.op.name in ADDED_LATER and (operation.type, parameter) == ("add", "y"):
            place = PLACES["bias"]
        if node is None or not 0 <= place < len(node.inputs):
            return -1
        value = node.inputs[place]
        return place if value.const is not None and value.quant is not None else -1

    def _leads_to(self, name: str) -> str:
        """The value that a tensor becomes."""
        seen: set[str] = set()
        while name not in self.names:
            if name in seen or not self.readers[name]:
                return ""
            seen.add(name)
            name = self.readers[name][0].outputs[0].name
        return self.names[name]

    def _value(self, stored: Any) -> np.ndarray:
        """In the element type that the file declares."""
        held: Any = self._constants.value(stored, "")
        return held.numpy().astype(self._constants.type_of(stored.type, "").dtype)

    def _dtype(self, name: str) -> str:
        output = next(output for output in self.makers[name].outputs if output.name == name)
        return self._constants.type_of(output.type, name).dtype


def _operands(operation: Any) -> Iterator[tuple[str, int, str]]:
    """(parameter, number of the argument, name of what is read)."""
    for parameter, argument in operation.inputs.items():
        for number, binding in enumerate(argument.arguments):
            if binding.WhichOneof("binding") == "name":
                yield parameter, number, binding.name


def _block(package: Package) -> Any:
    """The operations of the main function of the program, which a pipeline begins with."""
    model = package.model
    models = list(model.pipeline.models) if model.WhichOneof("Type") == "pipeline" else [model]
    programs = [m.mlProgram for m in models if m.WhichOneof("Type") == "mlProgram"]
    function = programs[0].functions.get("main") if programs else None
    if function is None or function.opset not in function.block_specializations:
        raise broken(package.path, "it holds no ML program with a function main for its opset")
    return function.block_specializations[function.opset]
