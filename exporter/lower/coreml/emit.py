"""One spelling per op: how a node of the graph is written as MIL operations, in float meaning.

Quantisation and float types are the emitter's alone. An op reads a quantised value through `dequantize` and its result
goes through `quantize`, so that every spelling serves float and int8; ops that only move elements work on the codes.

Float types: see `precision.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from exporter.ir.graph import Graph, Node, Value
from exporter.ir.quant import QuantParams
from exporter.lower.coreml.block import SHORT, Block, Parameter, Tensor
from exporter.lower.coreml.names import names, normalised
from exporter.lower.coreml.precision import float_types
from exporter.lower.coreml.schema import MIL
from exporter.lower.coreml.weights import Weights, per_channel, tensor_type
from exporter.lower.spellings import Spellings

OPSETS = {15: "CoreML5", 16: "CoreML6", 17: "CoreML7", 18: "CoreML8"}
"""iOS -> opset (coremltools, _OPSET)."""

Spelling = Callable[["Emitter", Node], None]
SPELLINGS: Spellings[Spelling] = Spellings()
spelling = SPELLINGS.register


class Emitter(Block):
    """Writes the nodes of one graph.

    `arithmetic` is float16 or float32. With `weights_int8` the weights of a float graph are stored as int8, symmetric
    and per output channel. `mean` and `std` make the input a picture of 0..255.
    """

    def __init__(
        self,
        graph: Graph,
        weights: Weights,
        *,
        min_os: int,
        arithmetic: str,
        weights_int8: bool = False,
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
    ) -> None:
        self._names = names(graph)
        super().__init__(weights, {*self._names.values(), *graph.output_names, *(v.name for v in graph.inputs)})
        self.graph, self.min_os, self.arithmetic, self.weights_int8 = graph, min_os, arithmetic, weights_int8
        self.float = arithmetic
        """The float type of the node that is being written."""
        self._scalar = False
        self.outputs: list[str] = []
        self._held: dict[int, Tensor] = {}
        self._read: dict[tuple[int, str, object], Tensor] = {}
        self._given: set[str] = set()
        self._outputs = set(map(id, graph.outputs))
        for value in graph.inputs:
            given = self.keep(value, Tensor(value.name, "float32", value.shape))
            if mean:
                given = self.keep(value, self._normalised(given, mean, std))
            if value.quant is not None:
                self.quantized(given, value)
        floats = float_types(graph, arithmetic)
        for node in graph.nodes:
            self.float, self._scalar = floats[node], not node.outputs[0].shape
            SPELLINGS[node.op.name](self, node)
        self._return()

    def program(self) -> Any:
        """The finished MIL program."""
        block = MIL.Block(operations=self.operations, outputs=self.outputs)
        inputs = [MIL.NamedValueType(name=v.name, type=tensor_type("float32", v.shape)) for v in self.graph.inputs]
        opset = OPSETS[self.min_os]
        function = MIL.Function(inputs=inputs, opset=opset, block_specializations={opset: block})
        return MIL.Program(version=1, functions={"main": function})

    # --- values -------------------------------------------------------------------------------------------------------
    def held(self, value: Value) -> Tensor:
        """The tensor that holds a value as it is: codes where it is quantised."""
        return self._held[id(value)]

    def read(self, value: Value) -> Tensor:
        """The tensor that holds a value in the float type of the node that is being written."""
        key = id(value), self.float, self._scalar and value.const is not None
        if key not in self._read:
            if value.const is not None:
                self._read[key] = self._constant(value, value.const.numpy(), value.quant.axis if value.quant else None)
            elif value.quant is not None:
                self._read[key] = self.dequantized(self.held(value), value.quant)
            else:
                self._read[key] = self.cast(self.held(value))
        return self._read[key]

    def elements(self, value: Value) -> Tensor:
        """The tensor that holds a value, for an operation that only moves elements: codes where it is quantised."""
        return self.held(value) if value.quant is not None else self.read(value)

    def weight(self, value: Value, perm: Sequence[int] = (0, 1, 2, 3)) -> Tensor:
        """The filters of a convolution or a linear layer, axes in another order; output channels are axis 0 here."""
        key = id(value), self.float, tuple(perm)
        if key not in self._read:
            assert value.const is not None
            array, axis = value.const.numpy().transpose(tuple(perm)[: len(value.shape)]), tuple(perm).index(0)
            if self.weights_int8 and value.quant is None:
                codes, params = per_channel(array, axis)
                self._read[key] = self._expression(value, codes, params, axis)
            else:
                self._read[key] = self._constant(value, array, axis)
        return self._read[key]

    def channels(self, value: Value, rank: int) -> Tensor:
        """A vector of one number per channel, to broadcast against tensors of that rank."""
        assert value.const is not None
        return self._constant(value, value.const.numpy().reshape(1, -1, *[1] * (rank - 2)), 1)

    def cast(self, tensor: Tensor, name: str = "") -> Tensor:
        """A float tensor in the float type of the node that is being written."""
        if tensor.dtype == self.float:
            return tensor
        name = name or self.fresh(f"{tensor.name}_{self.float}")
        return self.add("cast", Tensor(name, self.float, tensor.shape), x=tensor, dtype=SHORT[self.float])

    def dequantized(self, codes: Tensor, params: QuantParams, name: str = "") -> Tensor:
        """Codes -> float."""
        result = Tensor(name or self.fresh(f"{codes.name}_dequantized"), self.float, codes.shape)
        return self.add("dequantize", result, input=codes, **self._params(params))

    def quantized(self, source: Tensor, value: Value) -> Tensor:
        """float -> the codes of `value`."""
        assert value.quant is not None
        parameters = self._params(value.quant, source.dtype)
        result = Tensor(self.name(value), value.quant.dtype, value.shape)
        return self.keep(value, self.add("quantize", result, input=source, output_dtype=result.dtype, **parameters))

    def name(self, value: Value) -> str:
        """The identifier of the tensor that holds a value."""
        return self._names[value.name]

    def keep(self, value: Value, tensor: Tensor) -> Tensor:
        """Declare the tensor that holds `value`."""
        self._held[id(value)] = tensor
        return tensor

    def give(self, tensor: Tensor) -> None:
        """Make a tensor an output of the program, ahead of the graph's own."""
        self.outputs.append(tensor.name)

    # --- operations ---------------------------------------------------------------------------------------------------
    def op(self, kind: str, node: Node, /, **parameters: Parameter) -> None:
        """The operation that computes a node's result: its activation and its quantisation follow. Where `x` is codes,
        so is the result.
        """
        value, activation = node.output, node.attrs.get("activation", "none")
        if (dtype := _dtype(parameters, self.float)) not in SHORT:
            self.keep(value, self.add(kind, Tensor(self.name(value), dtype, value.shape), **parameters))
            return
        result = self._result(value)
        if activation == "none":
            self.add(kind, result, **parameters)
        else:
            linear = self.add(kind, Tensor(self.fresh(f"{result.name}_linear"), self.float, value.shape), **parameters)
            self.add(activation, result, x=linear)
        if value.quant is None:
            self.keep(value, result)
        else:
            self.quantized(result, value)

    def between(self, kind: str, node: Node, size: Sequence[int], /, **parameters: Parameter) -> Tensor:
        """An operation on the way to a node's result, of that size."""
        name = self.fresh(f"{self.name(node.output)}_{kind}")
        return self.add(kind, Tensor(name, _dtype(parameters, self.float), tuple(size)), **parameters)

    # --- parts --------------------------------------------------------------------------------------------------------
    def _constant(self, value: Value, array: np.ndarray, axis: int | None) -> Tensor:
        """A constant of the graph in float: int8 codes are dequantised when the file is compiled; int32 ones (biases),
        and those that make a result without dimensions, stand there as the nearest float.
        """
        params = value.quant
        if params is not None and params.dtype != "int32" and not self._scalar:
            return self._expression(value, np.atleast_1d(array), params, axis)
        if params is not None:
            scale = np.array(params.scale).reshape([-1 if d == axis else 1 for d in range(array.ndim)])
            array = (array.astype(np.float64) - params.zero_point) * scale
        return self.const(Tensor(self._own(value), self.float, array.shape), array.astype(self.float))

    def _expression(self, value: Value, codes: np.ndarray, params: QuantParams, axis: int | None) -> Tensor:
        """int8 codes that become floats when the file is compiled; iOS 18 has another operation for it."""
        scale = np.array(params.scale, self.float)
        zeros = np.full(scale.shape, params.zero_point, np.int8)
        if self.min_os >= 18:
            shape = [-1 if d == axis else 1 for d in range(codes.ndim)]
            operation = MIL.Operation(type="constexpr_blockwise_shift_scale")
            arrays = {"data": codes, "scale": scale.reshape(shape)}
            if params.zero_point:
                arrays["offset"] = zeros.reshape(shape)
            for parameter, array in arrays.items():
                operation.inputs[parameter].arguments.add().value.CopyFrom(self.weights.value(array))
        else:
            operation = MIL.Operation(type="constexpr_affine_dequantize")
            shape = [] if axis is None else [-1]
            arrays = {"quantized_data": codes, "scale": scale.reshape(shape), "zero_point": zeros.reshape(shape)}
            for parameter, array in (arrays | {"axis": np.array(axis or 0, np.int32)}).items():
                operation.attributes[parameter].CopyFrom(self.weights.value(array))
        return self.append(operation, Tensor(self._own(value), self.float, codes.shape))

    def _own(self, value: Value) -> str:
        """The name that `names` gave, once; a constant that is read in two ways has another the second time."""
        name = self.name(value)
        if name in self._given:
            return self.fresh(f"{name}_{self.float}")
        self._given.add(name)
        return name

    def _result(self, value: Value) -> Tensor:
        """The tensor for an op's float result: the value itself, unless codes or another float type are to follow."""
        name = self.name(value)
        if value.quant is not None:
            name = self.fresh(f"{name}_float")
        elif id(value) in self._outputs and self.float != "float32":
            name = self.fresh(f"{name}_{self.float}")
        return Tensor(name, self.float, value.shape)

    def _params(self, params: QuantParams, dtype: str = "") -> dict[str, np.ndarray]:
        """Scale and zero point of a tensor; 0 is left out."""
        found = {"scale": np.array(params.scale[0], dtype or self.float)}
        return found | ({"zero_point": np.array(params.zero_point, params.dtype)} if params.zero_point else {})

    def _normalised(self, x: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
        """(x / 255 - mean) / std in float32, operation by operation as `Preprocess.apply` computes it."""
        self.float = "float32"
        name = self._names[normalised(x.name)]
        centre, spread = (np.array(part, np.float32).reshape(1, -1, 1, 1) for part in (mean, std))
        unit = self.add("real_div", replace(x, name=self.fresh(f"{name}_unit")), x=x, y=255.0)
        centred = self.add("sub", replace(x, name=self.fresh(f"{name}_centred")), x=unit, y=centre)
        return self.add("real_div", replace(x, name=name), x=centred, y=spread)

    def _return(self) -> None:
        """Outputs are float32, under their own names. Those of a detector were given by its spelling."""
        self.float = "float32"
        for name, value in zip(self.graph.output_names, self.graph.outputs, strict=True):
            if value.producer is not None and value.producer.op.name == "detection_postprocess":
                continue
            self.outputs.append(name)
            if value.quant is not None and value.const is None:
                self.dequantized(self.held(value), value.quant, name)
                continue
            source = self.read(value) if value.const is not None else self.held(value)
            if source.name != name:
                converted = self.cast(source, name)
                if converted is source:
                    self.add("identity", Tensor(name, "float32", value.shape), x=source)


def _dtype(parameters: Mapping[str, Parameter], dtype: str) -> str:
    """The type of an operation's result: that of `x`."""
    x = parameters.get("x")
    return x.dtype if isinstance(x, Tensor) else dtype
