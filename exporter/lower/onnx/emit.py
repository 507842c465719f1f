"""One spelling per op: how a node of the graph is written as ONNX operators, in float meaning.

Quantisation is the emitter's alone: an op reads a quantised value through DequantizeLinear and its result goes through
QuantizeLinear, so that every spelling serves float and int8. Runtimes join the pairs around an op into an integer
kernel (onnxruntime: "QDQ format").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from exporter.ir.graph import Graph, Node, Value
from exporter.ir.quant import QuantParams
from exporter.lower.spellings import Spellings

OPSET, IR_VERSION = 20, 9
"""Opset 20 (ONNX 1.15) is the first with Gelu as one op; onnxruntime runs it since 1.17."""
TYPES = {"float32": TensorProto.FLOAT, "int8": TensorProto.INT8, "uint8": TensorProto.UINT8, "int32": TensorProto.INT32,
         "int64": TensorProto.INT64}  # fmt: skip

Spelling = Callable[["Emitter", Node], None]
SPELLINGS: Spellings[Spelling] = Spellings()
spelling = SPELLINGS.register


class Emitter:
    """Writes the nodes of one graph."""

    def __init__(self, graph: Graph, *, float16_weights: bool = False) -> None:
        self.graph, self.float16_weights = graph, float16_weights
        self.nodes: list[Any] = []
        self._initializers: dict[str, Any] = {}
        self._shared: dict[tuple[bytes, str, tuple[int, ...]], str] = {}
        self._names = {id(v): name for name, v in zip(graph.output_names, graph.outputs, strict=True)}
        self._taken = {*graph.output_names, *(v.name for v in graph.values())}
        self._floats: dict[tuple[object, ...], str] = {}
        for node in graph.nodes:
            SPELLINGS[node.op.name](self, node)

    def model(self, description: str) -> Any:
        """The finished ModelProto."""
        for name, value in zip(self.graph.output_names, self.graph.outputs, strict=True):
            if self.name(value) != name or value.producer is None:  # returned twice, an input itself, or an alias
                self.add("Identity", [self.name(value)], name)
        graph = helper.make_graph(
            self.nodes,
            self.graph.name,
            [_info(v.name, v) for v in self.graph.inputs],
            [_info(name, v) for name, v in zip(self.graph.output_names, self.graph.outputs, strict=True)],
            list(self._initializers.values()),
        )
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="edge-export")
        model.doc_string = description
        return model

    # --- names --------------------------------------------------------------------------------------------------------
    def name(self, value: Value) -> str:
        """The tensor that holds a value as it is: codes where it is quantised."""
        if value.const is not None:
            return self.constant(value.const.numpy(), value.name)
        return self._names.get(id(value), value.name) if value.producer is not None else value.name

    def alias(self, value: Value, name: str) -> None:
        """Let a value be a tensor that exists."""
        self._names[id(value)] = name

    def is_output(self, value: Value) -> bool:
        """Whether the graph returns the value."""
        return any(value is output for output in self.graph.outputs)

    def read(self, value: Value, axis: int | None = None, array: np.ndarray | None = None) -> str:
        """The tensor that holds a value in float. `array` is a constant in another order, `axis` its channels there."""
        if value.quant is None and value.const is None:
            return self.name(value)
        codes = self.name(value) if array is None else self.constant(array, value.name)
        if value.quant is None:
            return self._halved(codes)
        return self.dequantized(codes, value.quant, value.quant.axis if axis is None else axis)

    def write(self, value: Value) -> str:
        """The tensor for an op's float result; where the value is quantised, `done` turns it into codes."""
        return self.fresh(f"{self.name(value)}/float") if value.quant else self.name(value)

    def fresh(self, name: str) -> str:
        """A name that nothing bears yet."""
        unique, number = name, 1
        while unique in self._taken:
            number += 1
            unique = f"{name}_{number}"
        self._taken.add(unique)
        return unique

    def constant(self, array: np.ndarray, name: str) -> str:
        """An initializer; equal contents are stored once."""
        array = np.ascontiguousarray(array) if array.ndim else array
        key = array.tobytes(), str(array.dtype), array.shape
        if key not in self._shared:
            unique = name if name not in self._initializers and name not in self._names.values() else self.fresh(name)
            self._shared[key] = unique
            self._taken.add(unique)
            self._initializers[unique] = numpy_helper.from_array(array, unique)
        return self._shared[key]

    def integers(self, *numbers: int) -> str:
        """An int64 initializer: shapes, axes, pads."""
        return self.constant(np.array(numbers, np.int64), f"int64[{','.join(map(str, numbers))}]")

    def number(self, value: float) -> str:
        """A float32 scalar."""
        return self.constant(np.array(value, np.float32), f"float32({value:g})")

    # --- operators ----------------------------------------------------------------------------------------------------
    def op(self, kind: str, node: Node, inputs: Sequence[str], **attributes: Any) -> None:
        """The operator that computes a node's result: its activation and its quantisation follow."""
        result = self.write(node.output)
        activation = node.attrs.get("activation", "none")
        inner = result if activation == "none" else self.fresh(f"{result}/linear")
        self.add(kind, inputs, inner, **attributes)
        if activation == "relu":
            self.add("Relu", [inner], result)
        elif activation == "relu6":
            self.add("Clip", [inner, self.number(0), self.number(6)], result)
        if node.output.quant is not None:
            self.quantized(result, node.output.quant, self.name(node.output))

    def between(self, kind: str, node: Node, inputs: Sequence[str], **attributes: Any) -> str:
        """An operator on the way to a node's result."""
        name = self.fresh(f"{self.name(node.outputs[0])}/{kind.lower()}")
        self.add(kind, inputs, name, **attributes)
        return name

    def add(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        """Append one operator."""
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))

    def quantized(self, source: str, params: QuantParams, target: str) -> None:
        """float -> codes."""
        self.add("QuantizeLinear", [source, *self._params(params)], target)

    def dequantized(self, codes: str, params: QuantParams, axis: int | None = None, name: str = "") -> str:
        """Codes -> float; returns its name, the same one for the same codes and parameters unless `name` is given."""
        operands = [codes, *self._params(params)]
        key = (*operands, axis)
        if not name and key in self._floats:
            return self._floats[key]
        name = name or self.fresh(f"{codes}/float")
        self.add("DequantizeLinear", operands, name, **({} if axis is None else {"axis": axis}))
        self._floats.setdefault(key, name)
        return name

    def _params(self, params: QuantParams) -> list[str]:
        per_tensor = params.axis is None
        scale = np.array(params.scale, np.float32)
        zero_points = np.full(scale.shape, params.zero_point, params.dtype)
        arrays = (scale[0], zero_points[0]) if per_tensor else (scale, zero_points)
        return [self.constant(np.asarray(a), f"{kind}/{len(self._initializers)}") for kind, a in
                zip(("scale", "zero_point"), arrays, strict=True)]  # fmt: skip

    def _halved(self, name: str) -> str:
        """A float constant, stored in float16 where the file is to be small."""
        tensor = self._initializers.get(name)  # absent: an equal constant was halved before, under this name
        if tensor is None or not self.float16_weights or tensor.data_type != TensorProto.FLOAT or len(tensor.dims) == 0:
            return name
        half = self.constant(numpy_helper.to_array(tensor).astype(np.float16), f"{name}/float16")
        del self._initializers[name]
        self.add("Cast", [half], name, to=TensorProto.FLOAT)
        return name


def _info(name: str, value: Value) -> Any:
    dtype = value.quant.dtype if value.quant else str(value.dtype).removeprefix("torch.")
    return helper.make_tensor_value_info(name, TYPES[dtype], list(value.shape))
