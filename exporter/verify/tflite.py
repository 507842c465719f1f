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
from exporter.lower.tflite.layout import Layouts
from exporter.lower.tflite.versions import minimum_runtime
from exporter.verify.results import FileFacts, FloatOp
from exporter.verify.runtimes.litert import LiteRT
from exporter.verify.runtimes.litert_file import FileOp, TFLiteFile, read_file

BORDERS = frozenset({"QUANTIZE", "DEQUANTIZE"})


class Storage:
    """How a graph's inputs and outputs lie in the file that was written from it."""

    def __init__(self, graph: Graph) -> None:
        layouts = Layouts(graph)
        self.graph = graph
        self._inputs = [layouts.is_nhwc(value) for value in graph.inputs]
        self._outputs = [layouts.is_nhwc(value) for value in graph.outputs]

    def feed(self, sample: Sequence[Tensor]) -> list[np.ndarray]:
        """The inputs (float32 or codes) as the file takes them: quantised where it wants codes, in its order."""
        arrays = []
        for value, nhwc, tensor in zip(self.graph.inputs, self._inputs, sample, strict=True):
            stored = value.quant.quantize(tensor) if value.quant and tensor.is_floating_point() else tensor
            arrays.append(np.ascontiguousarray((stored.permute(0, 2, 3, 1) if nhwc else stored).numpy()))
        return arrays

    def fetch(self, results: Mapping[str, np.ndarray]) -> list[Tensor]:
        """The file's outputs in the graph's order, shape and axis order; floats or codes as the file gives them."""
        tensors = [torch.from_numpy(np.asarray(results[name])) for name in self.graph.output_names]
        return [t.permute(0, 3, 1, 2) if nhwc else t for t, nhwc in zip(tensors, self._outputs, strict=True)]

    def run(self, runtime: LiteRT, sample: Sequence[Tensor]) -> list[Tensor]:
        """One inference: PyTorch's tensors in, PyTorch's axis order out."""
        return self.fetch(runtime.run(self.feed(sample)))


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
        minimum_runtime=minimum_runtime({(op.name, op.version) for op in file.ops if not op.custom}),
    )


def tail_ops(file: TFLiteFile, graph: Graph) -> tuple[set[int], set[int]]:
    """Indices of the operators at the border of the float tail (DEQUANTIZE), and of those behind it.

    The border is where the quantised graph says so; what lies behind is found in the file itself.
    """
    operands = [v for node in graph.tail() for v in node.inputs]
    names = {v.name for v in operands if v.producer and v.producer.op.name == "dequantize"}
    border = {op.index for op in file.ops if file.tensors[op.outputs[0]].name in names}
    reached = {file.ops[i].outputs[0] for i in border}
    behind = set()
    for op in file.ops:
        if reached & set(op.inputs):
            behind.add(op.index)
            reached.update(op.outputs)
    return border, behind


def _is_border(file: TFLiteFile, op: FileOp) -> bool:
    """A conversion at the model's own float or uint8 input or output; those of a float island are not."""
    source, result = op.inputs[0], op.outputs[0]
    into = op.name == "QUANTIZE" and source in file.inputs and file.tensors[source].dtype != "int8"
    return into or (op.name in BORDERS and result in file.outputs and file.tensors[result].dtype != "int8")


def _works_on_floats(file: TFLiteFile, op: FileOp) -> bool:
    return any(file.tensors[i].dtype.startswith("float") for i in (*op.inputs, *op.outputs) if i >= 0)
