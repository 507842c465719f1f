"""The inputs and outputs of a model file, with the codes behind them, read off the file alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporter.ir.quant import LIMITS, QuantParams
from exporter.verify.runtimes.litert import LiteRT, TensorInfo
from exporter.verify.runtimes.litert_file import FileTensor, TFLiteFile, read_file


@dataclass(frozen=True)
class Border:
    """One input or output as the file stores it. `params` are those of its codes: its own, or those that the last
    dequantize in front of a float output read. None where there are no codes.
    """

    info: TensorInfo
    params: QuantParams | None


def borders(path: Path) -> tuple[tuple[Border, ...], tuple[Border, ...]]:
    """Inputs and outputs of a .tflite or .onnx file, in its order. Raises the errors of the format's runtime."""
    return _onnx(path) if path.suffix == ".onnx" else _tflite(path)


def _tflite(path: Path) -> tuple[tuple[Border, ...], tuple[Border, ...]]:
    runtime, file = LiteRT(path), read_file(path)
    inputs = tuple(Border(info, _params(info.dtype, info.scale, info.zero_point)) for info in runtime.inputs)
    outputs = tuple(
        Border(info, _behind(file, file.tensors[index]))
        for info, index in zip(runtime.outputs, runtime.output_indices, strict=True)
    )
    return inputs, outputs


def _behind(file: TFLiteFile, tensor: FileTensor) -> QuantParams | None:
    maker = next((op for op in file.ops if tensor.index in op.outputs), None)
    if maker is not None and maker.name == "DEQUANTIZE":
        tensor = file.tensors[maker.inputs[0]]
    return _params(tensor.dtype, *((tensor.scale[0], tensor.zero_point[0]) if tensor.scale else (None, None)))


def _onnx(path: Path) -> tuple[tuple[Border, ...], tuple[Border, ...]]:
    from onnx import numpy_helper

    from exporter.verify.readback.onnx import load_model
    from exporter.verify.runtimes.onnxruntime import OnnxRuntime

    graph, runtime = load_model(path).graph, OnnxRuntime(path, optimise=False)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    readers = {node.input[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    makers = {node.output[0]: node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")}

    def params(pair: Any) -> QuantParams | None:
        if pair is None or any(name not in constants for name in pair.input[1:3]):
            return None
        scale, zero_point = (numpy_helper.to_array(constants[name]).reshape(-1) for name in pair.input[1:3])
        return _params(str(zero_point.dtype), float(scale[0]), int(zero_point[0]))

    inputs = tuple(Border(info, params(readers.get(info.name))) for info in runtime.inputs)
    return inputs, tuple(Border(info, params(makers.get(info.name))) for info in runtime.outputs)


def _params(dtype: str, scale: float | None, zero_point: int | None) -> QuantParams | None:
    known = dtype in LIMITS and scale is not None
    return QuantParams((scale,), zero_point or 0, None, dtype) if known and scale is not None else None
