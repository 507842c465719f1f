"""Writes docs/ops.md: every op of the vocabulary, and what each format makes of it.

    python docs/make_ops.py

Nothing in the table is typed in: one node of each op is simplified, quantised and written as every target would, and
the operators are read back from the files. A test compares the committed page with a new one.
"""

from __future__ import annotations

import inspect
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor

from exporter.capture.aten import ATEN, NOISE
from exporter.ir.graph import Graph
from exporter.ir.ops import OPS
from exporter.ir.run import Interpreter
from exporter.lower import NAMES, target
from exporter.lower.facts import Facts
from exporter.quantize import quantize
from exporter.quantize.calibrate import calibrate
from exporter.simplify import simplify
from exporter.verify.runtimes.litert_file import read_file
from exporter.verify.runtimes.mil_reference import MilReference

PAGE = Path(__file__).with_name("ops.md")
IMAGE = (1, 8, 8, 8)
WINDOW: dict[str, Any] = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0, 0, 0)}
CONV: dict[str, Any] = {
    "stride": (1, 1), "padding": (1, 1, 1, 1), "dilation": (1, 1), "groups": 1, "activation": "none",
}  # fmt: skip

EXAMPLES: dict[str, tuple[list[tuple[int, ...]], list[tuple[int, ...]], dict[str, Any]]] = {
    "conv2d": ([IMAGE], [(8, 8, 3, 3), (8,)], CONV),
    "conv_transpose2d": (
        [IMAGE], [(4, 8, 2, 2), (4,)], {"stride": (2, 2), "padding": (0, 0, 0, 0), "activation": "none"},
    ),
    "linear": ([(2, 8)], [(4, 8), (4,)], {"activation": "none"}),
    "matmul": ([(2, 4, 8), (2, 8, 4)], [], {"transpose_b": False}),
    "layer_norm": ([(1, 4, 8)], [(8,), (8,)], {"dims": (2,), "eps": 1e-5}),
    "batch_norm": ([IMAGE], [(8,), (8,), (8,), (8,)], {"eps": 1e-5}),
    **{name: ([IMAGE, IMAGE], [], {"activation": "none"}) for name in ("add", "sub", "mul", "div")},
    "maximum": ([IMAGE, IMAGE], [], {}),
    "clamp": ([IMAGE], [], {"low": -0.5, "high": 0.5}),
    "leaky_relu": ([IMAGE], [], {"negative_slope": 0.1}),
    "gelu": ([IMAGE], [], {"approximate": "none"}),
    "softmax": ([(2, 8)], [], {"dim": 1}),
    "max_pool2d": ([IMAGE], [], WINDOW),
    "avg_pool2d": ([IMAGE], [], WINDOW),
    "mean": ([IMAGE], [], {"dims": (2, 3), "keepdim": True}),
    "amax": ([IMAGE], [], {"dims": (2, 3), "keepdim": True}),
    "depth_to_space": ([IMAGE], [], {"block": 2}),
    "space_to_depth": ([IMAGE], [], {"block": 2}),
    "resize_nearest": ([IMAGE], [], {"size": (16, 16)}),
    "resize_bilinear": ([IMAGE], [], {"size": (16, 16), "align_corners": True}),
    "pad": ([IMAGE], [], {"before": (0, 0, 1, 1), "after": (0, 0, 1, 1), "value": 0.0}),
    "slice": ([IMAGE], [], {"dim": 1, "start": 0, "end": 4, "step": 1}),
    "reshape": ([(2, 8)], [], {"shape": (4, 4)}),
    "transpose": ([(2, 8)], [], {"perm": (1, 0)}),
    "concat": ([IMAGE, IMAGE], [], {"dim": 1}),
    "gather_channels": ([IMAGE], [], {"channels": (0, 4, 1, 5, 2, 6, 3, 7)}),
    "detection_postprocess": (
        [(1, 6, 4), (1, 6, 2)], [(6, 4)],
        {"score_threshold": 0.0, "iou_threshold": 0.5, "max_detections": 3, "per_class": False},
    ),
}  # fmt: skip
"""Op -> shapes of its activations, shapes of its constants, attributes. Absent: one image and no attribute."""
BETWEEN = ("quantize", "dequantize")
"""Ops that only quantize writes: the borders of every int8 file."""


def page() -> str:
    """The whole of docs/ops.md."""
    formats = [f"{name}, {precision}" for name in NAMES for precision in ("float32", "int8")]
    head = [
        "# Ops",
        "",
        "Written by `docs/make_ops.py` from the code; CI compares. Operators are those of a file with one such op, its",
        "inputs and outputs int8 in the int8 columns; an ONNX op is surrounded by QuantizeLinear and DequantizeLinear",
        "there, a Core ML op by quantize and dequantize unless it moves int8 codes. *float* marks an op that has",
        "no integer form and becomes a float island, or stands in a float tail.",
        "",
        f"| op | meaning | scale | {' | '.join(formats)} |",
        "|---|---|---|" + "---|" * len(formats),
    ]
    rows = [f"| `{name}` | {_meaning(name)} | {OPS[name].scale.value} | {' | '.join(_cells(name))} |" for name in OPS]
    return "\n".join([*head, *rows, "", *_captured()]) + "\n"


def _meaning(name: str) -> str:
    return (inspect.getdoc(OPS[name].run) or "").split("\n\n")[0].replace("\n", " ").replace("|", "\\|")


def _captured() -> Iterator[str]:
    """The ATen names, wrapped."""
    yield from ("## What capture understands", "")
    yield "ATen ops, in place or not. A call whose arguments cannot be expressed is refused with its line and the why."
    yield ""
    yield ", ".join(f"`{name}`" for name in sorted(ATEN))
    yield ""
    yield "Dropped as noise: " + ", ".join(f"`{name}`" for name in sorted(NOISE)) + "."


def _cells(name: str) -> Iterator[str]:
    if name in BETWEEN:
        yield from (text for kind in _border(name) for text in ("", kind))
        return
    graph, feed = _graph(name)
    simplify(graph)
    ranges = calibrate(graph, [feed], "minmax")
    for chosen in NAMES:
        integer = graph.clone()
        _, islands = quantize(integer, dict(ranges), io="float" if chosen == "coreml" else "int8")
        stays_float = bool(islands) or OPS[name].name in {node.op.name for node in integer.tail()}
        yield _operators(chosen, graph, "float32")
        yield _operators(chosen, integer, "int8") + (" *float*" if stays_float else "")


def _border(name: str) -> tuple[str, ...]:
    return {
        "quantize": ("QUANTIZE", "QuantizeLinear", "quantize"),
        "dequantize": ("DEQUANTIZE", "DequantizeLinear", "dequantize"),
    }[name]


def _graph(name: str) -> tuple[Graph, tuple[Tensor, ...]]:
    """A graph of one node, and inputs for it."""
    activations, constants, attrs = EXAMPLES.get(name, ([IMAGE], [], {}))
    generator = torch.Generator().manual_seed(0)
    graph = Graph(name)
    inputs = [graph.add_input(f"x{i}", shape) for i, shape in enumerate(activations)]
    operands = [
        graph.constant(f"{name}/constant{i}", torch.rand(shape, generator=generator) + 0.5)
        for i, shape in enumerate(constants)
    ]
    if name == "detection_postprocess":
        inputs = [graph.emit("float_tail", [value]) for value in inputs]
    results = graph.emit_all(name, [*inputs, *operands], **attrs)
    graph.set_outputs({f"y{i}": value for i, value in enumerate(results)})
    positive = name in ("sqrt", "rsqrt", "div")
    feed = tuple(torch.rand(shape, generator=generator) + (0.5 if positive else -0.5) for shape in activations)
    assert all(math.isfinite(float(y.sum())) for y in Interpreter(graph).run(feed))
    return graph, feed


def _operators(name: str, graph: Graph, precision: str) -> str:
    """Names of the operators in a file of `graph`, in order, repetitions counted."""
    chosen = target(name)
    if refused := chosen.unsupported(graph):
        return f"– ({refused[0][1]})"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{chosen.suffix}"
        chosen.write(graph, path, Facts("model", precision))
        if name == "onnx":
            found = [node.op_type for node in onnx.load(path).graph.node if "Linear" not in node.op_type]
        elif name == "coreml":
            found = [step.op for step in MilReference(path).program.steps if step.op not in BETWEEN]
        else:
            found = [op.name for op in read_file(path).ops]
    counted = {kind: found.count(kind) for kind in found}
    return ", ".join(kind if count == 1 else f"{count} {kind}" for kind, count in counted.items()) or "nothing"


if __name__ == "__main__":
    PAGE.write_text(page())
