"""A TFLite flatbuffer, tensor by tensor and op by op, straight from the schema classes that ai-edge-litert ships."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

from exporter.ir.quant import QuantParams

TYPES = {
    "float32": schema.TensorType.FLOAT32, "float16": schema.TensorType.FLOAT16, "int8": schema.TensorType.INT8,
    "uint8": schema.TensorType.UINT8, "int16": schema.TensorType.INT16, "int32": schema.TensorType.INT32,
}  # fmt: skip
SCHEMA_VERSION = 3
SIGNATURE = "serving_default"


class _AlignedBuffer(schema.BufferT):  # type: ignore[misc]
    """The schema asks for 16-byte alignment of tensor data; the generated Python packer does not give it."""

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802
        content = self.data or b""
        builder.StartVector(1, len(content), 16)
        builder.head = builder.Head() - len(content)
        builder.Bytes[builder.Head() : builder.Head() + len(content)] = content
        vector = builder.EndVector()
        schema.BufferStart(builder)
        if content:
            schema.BufferAddData(builder, vector)
        return int(schema.BufferEnd(builder))


class ModelFile:
    """Collects tensors, buffers and operators of the one subgraph; `pack` gives the bytes.

    Equal constants share one tensor, equal contents one buffer, so weights that several ops use are stored once.
    """

    def __init__(self, name: str) -> None:
        self.subgraph = schema.SubGraphT()
        self.subgraph.name = name
        self.subgraph.tensors, self.subgraph.operators = [], []
        self._buffers: list[Any] = [_AlignedBuffer()]
        self._buffer_of: dict[bytes, int] = {}
        self._constant_of: dict[object, int] = {}
        self._codes: dict[tuple[str, int], int] = {}
        self._metadata: dict[str, int] = {}

    @property
    def ops(self) -> set[tuple[str, int]]:
        """(op, version) of every kind of builtin op in the file."""
        return {(name, version) for name, version in self._codes if hasattr(schema.BuiltinOperator, name)}

    def tensor(self, name: str, shape: Sequence[int], dtype: str, quant: QuantParams | None = None) -> int:
        """Append an activation tensor; returns its index."""
        return self._append(name, shape, dtype, quant, 0)

    def constant(self, name: str, array: np.ndarray, quant: QuantParams | None = None) -> int:
        """Index of a tensor that holds `array`; an equal one is reused."""
        content = np.ascontiguousarray(array).tobytes()
        key = (hashlib.sha256(content).digest(), array.shape, str(array.dtype), quant)
        if key not in self._constant_of:
            self._constant_of[key] = self._append(name, array.shape, str(array.dtype), quant, self._buffer(content))
        return self._constant_of[key]

    def op(self, name: str, inputs: Sequence[int], output: int, version: int, options: Any = None) -> None:
        """Append an operator with one output; `options` is the schema's options object."""
        operator = self._operator(name, version, inputs, [output])
        if options is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
            operator.builtinOptions = options

    def custom_op(
        self, name: str, inputs: Sequence[int], outputs: Sequence[int], options: Mapping[str, bool | int | float]
    ) -> None:
        """Append an operator that is none of the builtin ones; its options are stored as a FlexBuffer map."""
        operator = self._operator(name, 1, inputs, outputs)
        operator.customOptions = list(flexbuffers.Dumps(dict(options)))

    def _operator(self, name: str, version: int, inputs: Sequence[int], outputs: Sequence[int]) -> Any:
        operator = schema.OperatorT()
        operator.opcodeIndex = self._codes.setdefault((name, version), len(self._codes))
        operator.inputs, operator.outputs = np.asarray(inputs, np.int32), np.asarray(outputs, np.int32)
        self.subgraph.operators.append(operator)
        return operator

    def add_metadata(self, name: str, content: bytes) -> None:
        """Store a named metadata buffer."""
        self._metadata[name] = self._buffer(content)

    def pack(self, inputs: Mapping[str, int], outputs: Mapping[str, int], description: str) -> bytes:
        """The file's bytes, with a signature that names the model's inputs and outputs in order."""
        self.subgraph.inputs = np.asarray(list(inputs.values()), np.int32)
        self.subgraph.outputs = np.asarray(list(outputs.values()), np.int32)
        model = schema.ModelT()
        model.version, model.description = SCHEMA_VERSION, description
        model.subgraphs, model.buffers = [self.subgraph], self._buffers
        model.operatorCodes = [_operator_code(name, version) for name, version in self._codes]
        model.metadata = [_metadata(name, buffer) for name, buffer in self._metadata.items()]
        model.signatureDefs = [_signature(inputs, outputs)]
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _append(self, name: str, shape: Sequence[int], dtype: str, quant: QuantParams | None, buffer: int) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.type, tensor.buffer = name, TYPES[dtype], buffer
        tensor.shape = np.asarray(shape, np.int32)
        tensor.hasRank = True
        if quant is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = np.asarray(quant.scale, np.float32)
            tensor.quantization.zeroPoint = np.full(len(quant.scale), quant.zero_point, np.int64)
            tensor.quantization.quantizedDimension = quant.axis or 0
        self.subgraph.tensors.append(tensor)
        return len(self.subgraph.tensors) - 1

    def _buffer(self, content: bytes) -> int:
        key = hashlib.sha256(content).digest()
        if key not in self._buffer_of:
            buffer = _AlignedBuffer()
            buffer.data = content
            self._buffers.append(buffer)
            self._buffer_of[key] = len(self._buffers) - 1
        return self._buffer_of[key]


def _operator_code(name: str, version: int) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, name, schema.BuiltinOperator.CUSTOM)
    if code.builtinCode == schema.BuiltinOperator.CUSTOM:
        code.customCode = name
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    code.version = version
    return code


def _metadata(name: str, buffer: int) -> Any:
    entry = schema.MetadataT()
    entry.name, entry.buffer = name, buffer
    return entry


def _signature(inputs: Mapping[str, int], outputs: Mapping[str, int]) -> Any:
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = SIGNATURE, 0
    signature.inputs = [_tensor_map(name, index) for name, index in inputs.items()]
    signature.outputs = [_tensor_map(name, index) for name, index in outputs.items()]
    return signature


def _tensor_map(name: str, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, index
    return entry
