"""Integers of a .tflite file, brought from its storage order to the graph's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from exporter.ir.graph import Graph, Value
from exporter.ir.ops import Layout
from exporter.lower.tflite.layout import Layouts, layout_of
from exporter.verify.readback import Constant, Operand, Params, Stored, names_of
from exporter.verify.runtimes.litert_file import FileOp, FileTensor, broken, read_bytes, read_file

FILTERS = {"CONV_2D": (0, 3, 1, 2), "TRANSPOSE_CONV": (0, 3, 1, 2), "DEPTHWISE_CONV_2D": (3, 0, 1, 2)}
"""The stored dims of [O,I,kh,kw]: weights lie as [O,kh,kw,I], those of depthwise convolutions as [1,kh,kw,O]."""
PLACES = {"TRANSPOSE_CONV": {1: 1, 3: 2}}
"""Operands in another order than the graph's: shape, weight, x, bias."""
NCHW = (0, 3, 1, 2)


def read_tflite(path: Path, graph: Graph) -> Stored:
    """Read the file through the schema; no kernel runs."""
    try:
        reader = _Reader(path, graph)
        return Stored(reader.params(), dict(reader.constants()), reader.between())
    except (KeyError, IndexError, ValueError, TypeError) as error:  # indices that lead nowhere: nothing checks them
        raise broken(path, f"{type(error).__name__}: {error}") from error


class _Reader:
    """`named` holds, for each tensor of the file, the graph's values that live in it: more than one where the storage
    order makes a transpose no operator.
    """

    def __init__(self, path: Path, graph: Graph) -> None:
        self.path, self.graph, self.file = path, graph, read_file(path)
        self._model = schema.Model.GetRootAs(read_bytes(path), 0)
        self._layouts = Layouts(graph)
        self._nodes = {node.outputs[0].name: node for node in graph.nodes}
        self.makers = {index: op for op in self.file.ops for index in op.outputs}
        self.readers: dict[int, list[FileOp]] = defaultdict(list)
        for op in self.file.ops:
            for index in op.inputs:
                self.readers[index].append(op)
        self.named: dict[int, list[Value]] = defaultdict(list)
        for value, index in self._tensors():
            self.named[index].append(value)
        self._add_moved()

    def params(self) -> dict[str, frozenset[Params]]:
        """Of every quantised value that has a tensor."""
        found: dict[str, set[Params]] = defaultdict(set)
        for index, values in self.named.items():
            for value in values:
                if value.quant is not None:
                    found[value.name].add(_params(self.file.tensors[index]))
        return {name: frozenset(stated) for name, stated in found.items()}

    def constants(self) -> Iterator[tuple[Operand, Constant]]:
        """Of every operator that makes a value, or a tensor on the way to one."""
        for op in self.file.ops:
            if op.name == "CONCATENATION" and self._is_part(op):
                continue
            made, places = self._leads_to(op.outputs[0]), PLACES.get(op.name)
            for at, index in enumerate(self._operands(op)):
                place = places.get(at, 0) if places else at
                if index >= 0 and (tensor := self.file.tensors[index]).constant and tensor.scale:
                    perm = FILTERS.get(op.name) if place == 1 else None
                    yield (made, place), self._constant(tensor, perm or self._order(made, tensor))

    def between(self) -> dict[str, frozenset[Params]]:
        """Of every quantised tensor that is no value's and no constant."""
        found: dict[str, set[Params]] = defaultdict(set)
        for tensor in self.file.tensors:
            if tensor.scale and not tensor.constant and tensor.index not in self.named:
                found[self._leads_to(tensor.index)].add(_params(tensor))
        return {name: frozenset(stated) for name, stated in found.items()}

    def _add_moved(self) -> None:
        """Results of transposes that the storage order makes no operators live in their operands' tensors."""
        places = {value.name: index for index, values in self.named.items() for value in values}
        for node in self.graph.nodes:
            if node.op.name == "transpose" and node.output.name not in places:
                index = places.get(node.inputs[0].name)
                if index is not None:
                    self.named[index].append(node.output)
                    places[node.output.name] = index

    def _tensors(self) -> Iterator[tuple[Value, int]]:
        """Where the values are: outputs and inputs as the signature says, others by the tensor's name."""
        activations: dict[str, list[int]] = defaultdict(list)
        for tensor in self.file.tensors:
            if not tensor.constant:
                activations[tensor.name].append(tensor.index)
        signed = {name: i for s in self.file.signatures[:1] for name, i in s.outputs}
        called: dict[str, list[str]] = defaultdict(list)
        for name, bearer in names_of(self.graph).items():
            called[bearer].append(name)
        for value in self.graph.values():
            if value.const is None:
                names = called[value.name]
                indices = {signed[n] for n in names if n in signed and value in self.graph.outputs}
                for index in sorted(indices or {i for name in names for i in activations[name]}):
                    yield value, index

    def _leads_to(self, index: int) -> str:
        """Name of the value that a tensor holds, or on the way to which it is."""
        seen: set[int] = set()
        while index not in self.named:
            if index in seen or not self.readers[index]:
                return ""
            seen.add(index)
            index = self.readers[index][0].outputs[0]
        return self.named[index][0].name

    def _is_part(self, op: FileOp) -> bool:
        """Whether the operator joins some of the operands of another, which XNNPACK would not take all at once."""
        index = op.outputs[0]
        return index not in self.named and [r.name for r in self.readers[index]] == ["CONCATENATION"]

    def _operands(self, op: FileOp) -> Iterator[int]:
        """The operands of the graph's concat, where they are joined in parts; of other operators their own."""
        for index in op.inputs:
            part = self.makers.get(index)
            if part and {op.name, part.name} == {"CONCATENATION"} and self._is_part(part):
                yield from self._operands(part)
            else:
                yield index

    def _order(self, made: str, tensor: FileTensor) -> tuple[int, ...]:
        """How a constant lies that is no weight: like the result, where the op works in storage order."""
        node = self._nodes.get(made)
        alike = node is not None and layout_of(node) is Layout.TRANSPARENT and self._layouts.is_nhwc(node.outputs[0])
        return NCHW if alike and len(tensor.shape) == 4 else tuple(range(len(tensor.shape)))

    def _constant(self, tensor: FileTensor, perm: tuple[int, ...]) -> Constant:
        stored = self._model.Subgraphs(0).Tensors(tensor.index)
        content = self._model.Buffers(stored.Buffer()).DataAsNumpy()
        try:
            array = content.view(np.dtype(tensor.dtype)).reshape(tensor.shape).transpose(perm)
        except (TypeError, ValueError, AttributeError) as error:
            raise broken(self.path, f"{tensor.name} does not hold {tensor.dtype}{list(tensor.shape)}") from error
        return Constant(array, _params(tensor, perm))


def _params(tensor: FileTensor, perm: tuple[int, ...] = ()) -> Params:
    """As stated, the axis as it is called after the permutation."""
    axis = None
    if len(tensor.scale) > 1:
        axis = perm.index(tensor.axis) if tensor.axis in perm else tensor.axis
    return Params(tensor.scale, tensor.zero_point, tensor.dtype, axis)
