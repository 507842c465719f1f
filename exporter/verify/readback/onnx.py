"""Integers of an .onnx file: initializers that a DequantizeLinear reads, and the parameters of every pair."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from exporter.errors import DataError
from exporter.ir.graph import Graph
from exporter.verify.readback import Constant, Operand, Params, Stored, names_of

BIAS = 2


def read_onnx(path: Path, graph: Graph) -> Stored:
    """Read the file's protobuf; nothing runs. ONNX keeps the graph's axis order but for two kinds of weights."""
    reader = _Reader(load_model(path), graph)
    try:
        params, constants = reader.params(), dict(reader.constants())
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise _broken(path, f"a pair's operands: {error!r}") from error
    return Stored(params, constants, absent=reader.absent(params))


class _Reader:
    def __init__(self, model: Any, graph: Graph) -> None:
        self.graph, self.nodes, self.names = graph, list(model.graph.node), names_of(graph)
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self._array = cache(lambda name: numpy_helper.to_array(self._tensors[name]))
        self.readers: dict[str, list[tuple[Any, int]]] = defaultdict(list)
        for node in self.nodes:
            for place, name in enumerate(node.input):
                self.readers[name].append((node, place))

    def params(self) -> dict[str, frozenset[Params]]:
        """Of every activation: where it becomes codes, and wherever it is read."""
        found: dict[str, set[Params]] = defaultdict(set)
        for node in self.nodes:
            codes = {"QuantizeLinear": node.output[:1], "DequantizeLinear": node.input[:1]}.get(node.op_type, ())
            for name in codes:
                if name not in self._tensors:
                    found[self.names.get(name, "")].add(self._params(node))
        return {name: frozenset(stated) for name, stated in found.items()}

    def constants(self) -> Iterator[tuple[Operand, Constant]]:
        """Of every operator between the pairs."""
        for node in self.nodes:
            if node.op_type == "DequantizeLinear" and node.input[0] in self._tensors:
                array, params = self._array(node.input[0]), self._params(node)
                for reader, place in self._reached(node.output[0]):
                    yield self._operand(reader, place, array, params)

    def absent(self, params: dict[str, frozenset[Params]]) -> dict[str, str]:
        """An input of codes that nothing reads: ONNX states parameters in pairs alone."""
        unread = [v.name for v in self.graph.inputs if v.quant and v.name not in params]
        return dict.fromkeys(unread, "an input of codes that no pair reads")

    def _reached(self, floats: str) -> Iterator[tuple[Any, int]]:
        """Who reads a dequantised constant, also turned around (the right operand of a matmul)."""
        for reader, place in self.readers[floats]:
            if reader.op_type == "Transpose":
                yield from self._reached(reader.output[0])
            else:
                yield reader, place

    def _operand(self, reader: Any, place: int, array: np.ndarray, params: Params) -> tuple[Operand, Constant]:
        """A bias is int32 and may be added by an operator of its own."""
        made = self._leads_to(reader.output[0])
        if params.dtype == "int32":
            return (made, BIAS), Constant(array, _one_scale(params))
        turned: tuple[int, ...] = ()
        if reader.op_type == "ConvTranspose" and place == 1:
            turned = (1, 0, 2, 3)
        elif reader.op_type == "MatMul" and (params.axis, array.ndim) == (1, 2):  # [I,O] of a linear layer
            turned = (1, 0)
        if turned:
            axis = None if params.axis is None else turned.index(params.axis)
            array, params = array.transpose(turned), Params(params.scale, params.zero_point, params.dtype, axis)
        return (made, place), Constant(array, _one_scale(params))

    def _leads_to(self, name: str) -> str:
        """The value that a tensor becomes, behind its activation and its pair."""
        seen: set[str] = set()
        while name not in self.names:
            if name in seen or not self.readers[name]:
                return ""
            seen.add(name)
            name = self.readers[name][0][0].output[0]
        return self.names[name]

    def _params(self, node: Any) -> Params:
        scale, zero_point = (self._array(name) for name in node.input[1:3])
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
        scales, zeros = (tuple(array.reshape(-1).tolist()) for array in (scale, zero_point))
        return Params(scales, zeros, str(zero_point.dtype), axis if scale.ndim else None)


def _one_scale(params: Params) -> Params:
    """The common form: no axis where there is one scale."""
    one = len(params.scale) == 1
    return Params(params.scale, params.zero_point, params.dtype, None) if one else params


def load_model(path: Path) -> Any:
    """The file's ModelProto. Raises DataError for a missing, truncated or foreign file."""
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's own classes share no other base
        raise _broken(path, str(error)) from error
    if not model.graph.node:
        raise _broken(path, "it holds no graph")
    return model


def _broken(path: Path, why: str) -> DataError:
    return DataError(f"{path} is not a readable ONNX file", why=why, try_="export it again, or check the copy's sha256")
