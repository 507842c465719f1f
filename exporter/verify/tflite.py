"""A .tflite file next to the graph it was written from: storage order in and out, and the facts of the file."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from exporter.ir.graph import Graph
from exporter.ir.quant import QuantParams
from exporter.lower.tflite.versions import minimum_runtime
from exporter.verify.results import FileFacts, FloatOp
from exporter.verify.runtimes.litert import LiteRT
from exporter.verify.runtimes.litert_file import FileOp, TFLiteFile, read_file

BORDERS = frozenset({"QUANTIZE", "DEQUANTIZE"})


def feed(graph: Graph, sample: Sequence[Tensor]) -> list[np.ndarray]:
    """The graph's float32 NCHW inputs as the file takes them: quantised where it wants codes, 4-D ones NHWC."""
    arrays = []
    for value, tensor in zip(graph.inputs, sample, strict=True):
        stored = value.quant.quantize(tensor) if value.quant else tensor
        arrays.append(np.ascontiguousarray((stored.permute(0, 2, 3, 1) if stored.dim() == 4 else stored).numpy()))
    return arrays


def fetch(graph: Graph, results: Mapping[str, np.ndarray]) -> list[Tensor]:
    """The file's outputs in the graph's order, shape and axis order; floats or codes as the file gives them."""
    tensors = [torch.from_numpy(results[name]) for name in graph.output_names]
    return [t.permute(0, 3, 1, 2) if t.dim() == 4 else t for t in tensors]


def run(runtime: LiteRT, graph: Graph, sample: Sequence[Tensor]) -> list[Tensor]:
    """One inference: PyTorch's tensors in, PyTorch's axis order out."""
    return fetch(graph, runtime.run(feed(graph, sample)))


def output_params(graph: Graph) -> list[QuantParams | None]:
    """The parameters behind each output: its own, or those that its last dequantize read. None: a float output."""
    params = []
    for value in graph.outputs:
        producer = value.producer
        behind = producer.inputs[0] if producer and producer.op.name == "dequantize" else value
        params.append(behind.quant)
    return params


def codes(tensor: Tensor, params: QuantParams) -> Tensor:
    """Output codes: as given, or recovered from dequantised floats (exact: scale times an integer below 2^9)."""
    return torch.round(tensor / params.scale[0]) + params.zero_point if tensor.is_floating_point() else tensor


def reals(tensor: Tensor, params: QuantParams | None) -> Tensor:
    """Output values in float32, whatever the file gives."""
    return tensor if tensor.is_floating_point() or params is None else params.dequantize(tensor)


def file_facts(path: Path, precision: str, islands: Mapping[str, str]) -> FileFacts:
    """What the file says about itself. `islands` gives reasons for float ops by the name of their output."""
    file = read_file(path)
    content = path.read_bytes()
    integer, borders, floats = 0, 0, []
    for op in file.ops:
        if _is_border(file, op):
            borders += 1
        elif _works_on_floats(file, op):
            name = file.tensors[op.outputs[0]].name
            reason = islands.get(name, "beside a float op" if op.name in BORDERS else "")
            floats.append(FloatOp(op=op.name, where=name, reason=reason))
        else:
            integer += 1
    return FileFacts(
        path=path.name,
        precision=precision,
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        ops=dict(sorted(Counter(op.name for op in file.ops).items())),
        integer_ops=integer,
        border_ops=borders if precision == "int8" else 0,
        float_ops=tuple(floats) if precision == "int8" else (),
        transposes=sum(op.name == "TRANSPOSE" for op in file.ops),
        minimum_runtime=minimum_runtime({(op.name, op.version) for op in file.ops}),
    )


def _is_border(file: TFLiteFile, op: FileOp) -> bool:
    return op.name in BORDERS and (op.inputs[0] in file.inputs or op.outputs[0] in file.outputs)


def _works_on_floats(file: TFLiteFile, op: FileOp) -> bool:
    return any(file.tensors[i].dtype.startswith("float") for i in (*op.inputs, *op.outputs) if i >= 0)
