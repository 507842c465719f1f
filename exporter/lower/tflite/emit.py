"""One spelling per op: how a node of the graph is written as TFLite operators.

The spellings register themselves in `SPELLINGS`: `elementwise.py` (rows of a table), `windows.py`, `shape.py`.
Storage order is decided in `layout.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from exporter.ir.graph import Graph, Node, Value
from exporter.ir.quant import QuantParams
from exporter.lower.spellings import Spellings
from exporter.lower.tflite.file import ModelFile
from exporter.lower.tflite.layout import NHWC, Layouts, same_bytes
from exporter.lower.tflite.versions import version_of, version_of_rank

ACTIVATIONS = {
    "none": schema.ActivationFunctionType.NONE,
    "relu": schema.ActivationFunctionType.RELU,
    "relu6": schema.ActivationFunctionType.RELU6,
}
Spelling = Callable[["Emitter", Node], None]
SPELLINGS: Spellings[Spelling] = Spellings()
spelling = SPELLINGS.register


class Emitter:
    """Writes the nodes of one graph into a ModelFile."""

    def __init__(self, graph: Graph, *, float16_weights: bool = False) -> None:
        self.graph = graph
        self.layouts = Layouts(graph)
        self.file = ModelFile(graph.name)
        self.float16_weights = float16_weights
        self._exact = {id(value) for node in graph.tail() for value in node.inputs}
        self._index: dict[int, int] = {}
        self._plain: dict[int, int] = {}
        self._float16: dict[int, int] = {}
        self._output_names = {id(v): n for n, v in zip(graph.output_names, graph.outputs, strict=True)}
        for value in graph.inputs:
            self._index[id(value)] = self._new(value)
        for node in graph.nodes:
            SPELLINGS[node.op.name](self, node)

    # --- tensors ------------------------------------------------------------------------------------------------------
    def stored(self, value: Value) -> int:
        """Index of the tensor that holds an activation in its storage order."""
        if value.const is not None:
            return self.constant(value)
        return self._index[id(value)]

    def result(self, value: Value) -> int:
        """A new tensor for a node's output, in its storage order."""
        self._index[id(value)] = index = self._new(value)
        return index

    def alias(self, value: Value, of: Value) -> None:
        """Let `value` live in the tensor of `of`: the same bytes under the same stored shape."""
        self._index[id(value)] = self.stored(of)

    def plain(self, value: Value) -> int:
        """Index of the value in PyTorch's axis order; NHWC values are transposed once."""
        if not self.layouts.is_nhwc(value):
            return self.stored(value)
        if id(value) not in self._plain:
            index = self.file.tensor(f"{value.name}/nchw", value.shape, dtype_of(value), value.quant)
            self._move(self.stored(value), index, (0, 3, 1, 2), value)
            self._plain[id(value)] = index
        return self._plain[id(value)]

    def into(self, value: Value, write: Callable[[int], None]) -> None:
        """Let `write` fill a tensor in PyTorch's order, then bring it into the value's storage order."""
        if not self.layouts.is_nhwc(value):
            write(self.result(value))
            return
        index = self.file.tensor(f"{value.name}/nchw", value.shape, dtype_of(value), value.quant)
        write(index)
        self._move(index, self.result(value), NHWC, value)

    def constant(self, value: Value, array: np.ndarray | None = None, quant: QuantParams | None = None) -> int:
        """Index of a constant, given in the order in which it is to be stored."""
        assert value.const is not None
        array = value.const.numpy() if array is None else array
        if self.float16_weights and array.dtype == np.float32 and array.size > 1 and id(value) not in self._exact:
            return self._half(value.name, array)
        return self.file.constant(value.name, array, quant or value.quant)

    def numbers(self, *items: Any) -> int:
        """An int32 constant: axes, sizes, paddings."""
        array = np.asarray(items[0] if len(items) == 1 else items, np.int32)
        return self.file.constant(f"int32{array.tolist()}".replace(" ", ""), array)

    def broadcast(self, value: Value, like: Value) -> int:
        """An elementwise operand: one number as a scalar, other constants with `like`'s rank and storage order."""
        if value.const is None:
            return self.plain(value) if len(value.shape) != len(like.shape) else self.stored(value)
        return self.constant(value, value.const.numpy().reshape(())) if value.numel == 1 else self.aligned(value, like)

    def aligned(self, value: Value, like: Value) -> int:
        """An operand with the rank of `like`, in its storage order."""
        if value.const is None:
            return self.stored(value)
        array = value.const.numpy()
        array = array.reshape((1,) * (len(like.shape) - array.ndim) + array.shape)
        return self.constant(value, array.transpose(NHWC) if self.layouts.is_nhwc(like) else array)

    def aligned_on(self, value: Value, dims: Sequence[int], like: Value) -> int:
        """A constant whose dims are the dims `dims` of `like`, to broadcast against it in its storage order."""
        assert value.const is not None
        array = value.const.numpy().reshape([n if d in dims else 1 for d, n in enumerate(like.shape)])
        return self.constant(value, array.transpose(NHWC) if self.layouts.is_nhwc(like) else array)

    # --- operators ----------------------------------------------------------------------------------------------------
    def op(
        self, name: str, inputs: Sequence[int], output: int, node: Node, options: Any = None, at_least: int = 1
    ) -> None:
        """Append one operator in the lowest version that fits."""
        quant = node.inputs[0].quant or node.outputs[0].quant
        int8 = quant is not None and name != "QUANTIZE"
        at_least = max(at_least, version_of_rank(name, [tuple(self.file.subgraph.tensors[i].shape) for i in inputs]))
        self.file.op(name, inputs, output, version_of(name, int8=int8, at_least=at_least), options)

    def _move(self, source: int, target: int, perm: tuple[int, ...], value: Value) -> None:
        int8 = value.quant is not None
        if same_bytes(value.shape):
            options = schema.ReshapeOptionsT()
            options.newShape = np.asarray(self.file.subgraph.tensors[target].shape, np.int32)
            self.file.op("RESHAPE", [source, self.numbers(options.newShape)], target, 1, options)
        else:
            version = version_of("TRANSPOSE", int8=int8)
            self.file.op("TRANSPOSE", [source, self.numbers(perm)], target, version, schema.TransposeOptionsT())

    def _new(self, value: Value) -> int:
        name = self._output_names.get(id(value), value.name)
        return self.file.tensor(name, self.layouts.shape(value), dtype_of(value), value.quant)

    def _half(self, name: str, array: np.ndarray) -> int:
        half = self.file.constant(f"{name}/float16", array.astype(np.float16))
        if half not in self._float16:
            self._float16[half] = index = self.file.tensor(name, array.shape, "float32")
            self.file.op("DEQUANTIZE", [half], index, 3, schema.DequantizeOptionsT())
        return self._float16[half]


def dtype_of(value: Value) -> str:
    return value.quant.dtype if value.quant else str(value.dtype).removeprefix("torch.")


def with_activation(options: Any, node: Node) -> Any:
    """Put the node's activation into the options."""
    if "activation" in node.attrs:
        options.fusedActivationFunction = ACTIVATIONS[node.attrs["activation"]]
    return options
