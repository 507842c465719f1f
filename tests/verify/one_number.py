"""Saved int8 files with one of their numbers changed: every number that says something about integers, one by one.

A change is called by what it changes: `code of NAME`, `scale of NAME`, `zero point of NAME`, by the file's own names.
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

Changed = tuple[str, bytes]


def changed_tflite(path: Path) -> Iterator[Changed]:
    """Of every quantised tensor, whoever needs it."""
    content = path.read_bytes()
    for index, tensor in enumerate(_unpacked(content).subgraphs[0].tensors):
        if tensor.quantization is None or tensor.quantization.scale is None:
            continue
        name = tensor.name.decode()
        yield f"scale of {name}", _tflite(content, index, _rescale)
        yield f"zero point of {name}", _tflite(content, index, _shift)
        if tensor.buffer and _unpacked(content).buffers[tensor.buffer].data is not None:
            yield f"code of {name}", _tflite(content, index, _flip)


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
            yield f"{what} of {node.output[0]}", _onnx(content, index, place, array)
        if node.op_type == "DequantizeLinear" and node.input[0] in tensors and node.input[0] not in codes:
            codes.add(node.input[0])
            array = np.array(tensors[node.input[0]])
            array.reshape(-1)[:1] ^= 1
            yield f"code of {node.input[0]}", _onnx(content, index, 0, array)


def _beside(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind == "f":
        return np.nextafter(array, np.float32(2))
    return np.where(array < 127, array + 1, array - 1).astype(array.dtype)


def _onnx(content: bytes, index: int, place: int, array: np.ndarray) -> bytes:
    model = onnx.load_from_string(content)
    model.graph.initializer.append(numpy_helper.from_array(array, "changed"))
    model.graph.node[index].input[place] = "changed"
    return bytes(model.SerializeToString())


CHANGED = {"tflite": changed_tflite, "onnx": changed_onnx}
