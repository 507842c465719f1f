"""The parity helper. It reads as the pipeline does: capture, simplify, quantize, lower, run, compare.

`check_float` and `check_int8` take a module (or a plain function of tensors) and example inputs, and hold the file that
comes out against PyTorch: what LiteRT computes is compared, not what we believe it computes.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx
import torch
from parity_coreml import check_coreml, check_coreml_codes, snr
from torch import Tensor, nn

from exporter.capture import capture
from exporter.ir.graph import Graph
from exporter.ir.run import Interpreter
from exporter.lower.facts import Facts
from exporter.lower.onnx import ONNX
from exporter.lower.tflite import TFLite
from exporter.quantize import quantize
from exporter.quantize.calibrate import calibrate
from exporter.simplify import simplify
from exporter.verify.agreement import agree
from exporter.verify.files import open_file
from exporter.verify.runtimes.litert import LiteRT
from exporter.verify.runtimes.litert_file import TFLiteFile, read_file
from exporter.verify.runtimes.onnxruntime import OnnxRuntime
from exporter.verify.tflite import Storage, tail_ops
from exporter.verify.verify import Integers

FLOAT_SNR = 120.0
"""dB between a float32 file and eager PyTorch: about the noise of float32 itself."""
ONNX_SNR = 115.0
"""The same for onnxruntime, whose matrix products add along one axis in sequence (1000 of them: 119 dB)."""
INT8_SNR = 30.0
"""dB between a dequantised int8 result and eager PyTorch, for one or two ops on well-spread data."""

Model = nn.Module | Callable[..., object]


@dataclass(frozen=True)
class Exported:
    """A file, the graph that it was written from, and what it computed (PyTorch's axis order, in output order)."""

    graph: Graph
    content: bytes
    file: TFLiteFile
    outputs: list[Tensor]
    snr: float
    islands: dict[str, str] = field(default_factory=dict)
    outside: tuple[str, ...] = ()
    """Names of the operators that XNNPACK leaves to the builtin kernels."""

    @property
    def ops(self) -> list[str]:
        """Names of the file's operators, in order."""
        return [op.name for op in self.file.ops]

    @property
    def nodes(self) -> list[str]:
        """Names of the graph's ops, in order."""
        return [node.op.name for node in self.graph.nodes]


class Function(nn.Module):
    """A plain function as a module."""

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> object:
        return self.function(*inputs)


def image(*shape: int, low: float = -1.0, high: float = 1.0, seed: int = 1) -> Tensor:
    """Uniform float32 values in [low, high), the same on every run."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * (high - low) + low


def simplified(model: Model, *inputs: Tensor) -> Graph:
    """The float graph after capture and simplify."""
    return simplify(captured(model, *inputs))


def captured(model: Model, *inputs: Tensor) -> Graph:
    """The graph after capture alone."""
    return capture(as_module(model), inputs)


def check_float(model: Model, *inputs: Tensor, least: float = FLOAT_SNR, precision: str = "float32") -> Exported:
    """The float file computes what `model` computes in eager PyTorch, `least` dB or better on every output."""
    expected = eager(model, *inputs)
    graph = simplified(model, *inputs)
    exported = lower(graph, inputs, precision=precision)
    worst = min(_snr_of(exported.outputs, expected))
    in_onnx = min(_snr_of(lower_onnx(graph, inputs, precision), expected))
    assert in_onnx >= min(least, ONNX_SNR), f"SNR {in_onnx:.1f} dB in ONNX"
    assert worst >= least, f"SNR {worst:.1f} dB, at least {least} wanted"
    check_coreml(graph, inputs, expected, eager(model, *(x.half().float() for x in inputs)), least)
    return replace(exported, snr=worst)


def check_int8(model: Model, *inputs: Tensor, least: float = INT8_SNR, io: str = "int8") -> Exported:
    """The int8 file: what LiteRT computes equals the integer interpreter, every code; no tensor is float outside the
    borders (`io`), the declared islands and the model's own float tail; the dequantised result is within `least` dB of
    eager PyTorch. Calibrated by min-max on `inputs`.
    """
    expected = eager(model, *inputs)
    graph = simplified(model, *inputs)
    _, islands = quantize(graph, calibrate(graph, [inputs], "minmax"), io=io)
    exported = run_int8(graph, *inputs)
    if not islands:
        allowed = {v.name for v in graph.inputs} | set(graph.output_names) if io == "float" else set()
        assert float_tensors(exported) <= allowed
    reals = [v.quant.dequantize(y) if v.quant else y for v, y in zip(graph.outputs, exported.outputs, strict=True)]
    worst = min(_snr_of(reals, expected))
    assert worst >= least, f"SNR {worst:.1f} dB, at least {least} wanted"
    return replace(exported, snr=worst, islands=islands)


def run_int8(graph: Graph, *inputs: Tensor) -> Exported:
    """Lower a quantised graph; LiteRT's outputs equal the integer interpreter's, all elements of all of them.

    Those of a float tail agree to `FLOAT_SNR`: both compute them in float32 from equal codes.
    """
    operands = [v.quant.quantize(x) if v.quant else x for v, x in zip(graph.inputs, inputs, strict=True)]
    exported, tail = lower(graph, operands), graph.tail()
    _check_onnx_codes(graph, operands)
    check_coreml_codes(graph, operands)
    for name, ours, theirs in zip(graph.output_names, Interpreter(graph).run(operands), exported.outputs, strict=True):
        assert ours.dtype == theirs.dtype, f"{name} is {theirs.dtype}, the interpreter gives {ours.dtype}"
        if graph.outputs[graph.output_names.index(name)].producer in tail:
            assert snr(theirs, ours) >= FLOAT_SNR, f"{name}: {snr(theirs, ours):.1f} dB"
            continue
        wrong = (ours.double() - theirs.double()).abs()
        assert not wrong.any(), f"{name}: {int((wrong > 0).sum())} of {wrong.numel()} differ, by up to {wrong.max()}"
    return exported


def float_tensors(exported: Exported) -> set[str]:
    """Names of the file's float tensors outside the model's float tail."""
    file, (border, behind) = exported.file, tail_ops(exported.file, exported.graph)
    inside = {i for op in file.ops if op.index in behind for i in (*op.inputs, *op.outputs)}
    inside |= {i for op in file.ops if op.index in border for i in op.outputs}
    return {t.name for t in file.float_tensors if t.index not in inside}


def eager(model: Model, *inputs: Tensor) -> list[Tensor]:
    """What PyTorch computes in eval mode, flattened. The inputs are cloned: models may write to them."""
    with torch.no_grad():
        result = as_module(model).eval()(*(x.clone() for x in inputs))
    return [y.clone() for y in torch.utils._pytree.tree_leaves(result) if y is not None]


def as_module(model: Model) -> nn.Module:
    """`model`, or the function as a module."""
    return model if isinstance(model, nn.Module) else Function(model)


def run_float(graph: Graph, *inputs: Tensor) -> list[Tensor]:
    """What the interpreter computes for a float graph."""
    return Interpreter(graph).run(inputs)


def lower(graph: Graph, inputs: Sequence[Tensor], precision: str = "float32") -> Exported:
    """Write the graph, run the file on LiteRT, bring its outputs to PyTorch's axis order."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        content = write(graph, path, precision)
        check_read_back(graph, path)
        runtime, storage = LiteRT(path), Storage(graph)
        results = runtime.run(storage.feed(inputs))
        file = read_file(path)
        outside = tuple(op.name for op in runtime.partitions().undelegated)
    assert list(results) == graph.output_names
    return Exported(graph, content, file, storage.fetch(results), math.nan, outside=outside)


def lower_onnx(graph: Graph, inputs: Sequence[Tensor], precision: str = "float32") -> list[Tensor]:
    """Write the graph as ONNX, run it on onnxruntime without its optimiser."""
    with written_onnx(graph, precision) as path:
        results = OnnxRuntime(path, optimise=False).run([x.numpy() for x in inputs])
    assert list(results) == graph.output_names
    return [torch.from_numpy(result) for result in results.values()]


@contextmanager
def written_onnx(graph: Graph, precision: str) -> Iterator[Path]:
    """The graph as a .onnx file that onnx's own checker passes."""
    refused = ONNX().unsupported(graph)
    assert not refused, refused
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        ONNX().write(graph, path, Facts(graph.name, precision))
        onnx.checker.check_model(onnx.load(path), full_check=True)
        check_read_back(graph, path)
        yield path


def check_read_back(graph: Graph, path: Path) -> None:
    """All that a file holds of a quantised graph is the graph's own."""
    if any(value.quant for value in graph.values()):
        (row,) = agree(graph, {path.suffix: path})
        assert row.agrees, row.differences


def _check_onnx_codes(graph: Graph, inputs: Sequence[Tensor]) -> None:
    """Op by op, on the interpreter's operands: a code may differ by one where the exact result is a tie, since
    onnxruntime computes in float between the QDQ pairs and rounds halves to even.
    """
    with written_onnx(graph, "int8") as path:
        opened = open_file(path, graph)
        results = opened.fetch(opened.runtime.run(opened.feed(inputs)))
        for value, result in zip(graph.outputs, results, strict=True):
            assert tuple(result.shape) == value.shape
        for kind, ours, theirs in opened.integer_rows(inputs, results, Integers(graph).run(inputs)):
            assert ours.dtype == theirs.dtype, f"{kind} is {theirs.dtype} in ONNX, the interpreter gives {ours.dtype}"
            apart = int((ours.int() - theirs.int()).abs().max())
            assert apart <= 1, f"{kind}: ONNX is {apart} LSB from the interpreter"


def write(graph: Graph, path: Path, precision: str = "float32") -> bytes:
    """Write `graph` as TFLite, and read the bytes back."""
    refused = TFLite().unsupported(graph)
    assert not refused, refused
    TFLite().write(graph, path, Facts(graph.name, precision))
    return path.read_bytes()


def _snr_of(results: Sequence[Tensor], expected: Sequence[Tensor]) -> list[float]:
    return [snr(result, reference) for result, reference in zip(results, expected, strict=True)]
