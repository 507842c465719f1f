"""Saved int8 files with one of their numbers changed: every number that says something about integers, one by one.

A change is called by what it changes, by the file's own names: `code of NAME`, `scale of NAME`, `zero point of NAME`.
It is the file on disk that changes, and what it then holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from onnx import numpy_helper

from exporter.verify.runtimes.mil_reference.blobs import METADATA
from exporter.verify.runtimes.mil_reference.package import read_package

Changed = tuple[str, Path, bytes]


def changed_tflite(path: Path) -> Iterator[Changed]:
    """Of every quantised tensor, whoever needs it."""
    content = path.read_bytes()
    for index, tensor in enumerate(_unpacked(content).subgraphs[0].tensors):
        if tensor.quantization is None or tensor.quantization.scale is None:
            continue
        name = tensor.name.decode()
        yield f"scale of {name}", path, _tflite(content, index, _rescale)
        yield f"zero point of {name}", path, _tflite(content, index, _shift)
        if tensor.buffer and _unpacked(content).buffers[tensor.buffer].data is not None:
            yield f"code of {name}", path, _tflite(content, index, _flip)


def _unpacked(content: bytes) -> Any:
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))


def _tflite(content: bytes, index: int, change: Callable[[Any, Any], None]) -> bytes:
    model = _unpacked(content)
    change(model, model.subgraphs[0].tensors[index])
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _rescale(model: Any, tensor: Any) -> None:
    scale = tensor.quantization.scale = np.array(tensor.quantization.scale)
    scale[-1] = np.nextafter(scale[-1], np.float32(2))


def _shift(model: Any, tensor: Any) -> None:
    zero_point = tensor.quantization.zeroPoint = np.array(tensor.quantization.zeroPoint)
    zero_point[-1] += 1 if zero_point[-1] < 127 else -1


def _flip(model: Any, tensor: Any) -> None:
    data = model.buffers[tensor.buffer].data = np.array(model.buffers[tensor.buffer].data)
    data[0] ^= 1


def changed_onnx(path: Path) -> Iterator[Changed]:
    """Of every pair, and of every constant that one reads."""
    content = path.read_bytes()
    model = onnx.load_from_string(content)
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    codes: set[str] = set()
    for index, node in enumerate(model.graph.node):
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        for place, what in ((1, "scale"), (2, "zero point")):
            array = np.array(tensors[node.input[place]])
            array.reshape(-1)[-1:] = _beside(array.reshape(-1)[-1:])
            yield f"{what} of {node.output[0]}", path, _onnx(content, index, place, array)
        if node.op_type == "DequantizeLinear" and node.input[0] in tensors and node.input[0] not in codes:
            codes.add(node.input[0])
            array = np.array(tensors[node.input[0]])
            array.reshape(-1)[:1] ^= 1
            yield f"code of {node.input[0]}", path, _onnx(content, index, 0, array)


def _beside(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind == "f":
        return np.nextafter(array, np.float32(2))
    return np.where(array < 127, array + 1, array - 1).astype(array.dtype)


def _onnx(content: bytes, index: int, place: int, array: np.ndarray) -> bytes:
    model = onnx.load_from_string(content)
    model.graph.initializer.append(numpy_helper.from_array(array, "changed"))
    model.graph.node[index].input[place] = "changed"
    return bytes(model.SerializeToString())


def changed_coreml(path: Path) -> Iterator[Changed]:
    """Of every constant that holds codes, of every scale and zero point beside them, and of every bias."""
    package = read_package(path)
    model, weights = path / "Data" / "com.apple.CoreML" / "model.mlmodel", path / WEIGHTS
    first = package.model.pipeline.models[0] if package.model.HasField("pipeline") else package.model
    program = first.mlProgram.functions["main"]
    operations = program.block_specializations[program.opset].operations
    done: set[object] = set()
    for what, place, stored in _stored(operations):
        in_file = stored.WhichOneof("value") == "blobFileValue"
        key = stored.blobFileValue.offset if in_file else place
        if key in done:
            continue
        done.add(key)
        if in_file:
            content = weights.read_bytes()
            start = int(METADATA.unpack_from(content, stored.blobFileValue.offset)[3])
            yield what, weights, _flipped(content, start)
        else:
            before = stored.SerializeToString()
            _change(stored.immediateValue.tensor)
            yield what, model, package.model.SerializeToString()
            stored.ParseFromString(before)


KINDS = {"scale": "scale", "zero_point": "zero point", "offset": "zero point", "bias": "bias"}
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"


def _stored(operations: Any) -> Iterator[tuple[str, object, Any]]:
    """What it is, where, and the Value, of all that says something about integers."""
    makers = {operation.outputs[0].name: operation for operation in operations}
    for operation in operations:
        name = operation.outputs[0].name
        if operation.type.startswith("constexpr_"):
            inside = {key: argument.arguments[0].value for key, argument in operation.inputs.items()}
            for parameter, value in (dict(operation.attributes) | inside).items():
                if parameter not in ("name", "axis"):
                    yield f"{KINDS.get(parameter, 'code')} of {name}", (name, parameter), value
        wanted = ("scale", "zero_point") if operation.type in ("quantize", "dequantize") else ("bias",)
        for parameter in wanted:
            if parameter in operation.inputs:
                constant = operation.inputs[parameter].arguments[0].name
                yield f"{KINDS[parameter]} of {name}", constant, makers[constant].attributes["val"]


def _change(tensor: Any) -> None:
    """The last number of an immediate tensor, by its lowest bit."""
    if tensor.WhichOneof("value") == "bytes":
        content = tensor.bytes.values
        width = 1 if len(content) % 2 else 2
        tensor.bytes.values = _flipped(content, len(content) - width)
    else:
        (values,) = (getattr(tensor, kind).values for kind in ("floats", "ints") if getattr(tensor, kind).values)
        values[-1] = float(np.nextafter(np.float32(values[-1]), np.float32(2)))


def _flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


CHANGED: dict[str, Callable[[Path], Iterator[Changed]]] = {
    ".tflite": changed_tflite,
    ".onnx": changed_onnx,
    ".mlpackage": changed_coreml,
}
"""By the file's suffix."""
