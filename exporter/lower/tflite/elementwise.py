"""Ops that work element by element: rows of a table, and the few that need more."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from exporter.ir.graph import Node
from exporter.ir.integer import saturating_steps
from exporter.ir.ops import Layout
from exporter.lower.tflite.emit import Emitter, dtype_of, spelling, with_activation
from exporter.lower.tflite.layout import layout_of

ROWS: dict[str, tuple[str, Callable[[], Any] | None]] = {
    "add": ("ADD", schema.AddOptionsT),
    "sub": ("SUB", schema.SubOptionsT),
    "mul": ("MUL", schema.MulOptionsT),
    "div": ("DIV", schema.DivOptionsT),
    "maximum": ("MAXIMUM", schema.MaximumMinimumOptionsT),
    "sqrt": ("SQRT", None),
    "rsqrt": ("RSQRT", None),
    "sigmoid": ("LOGISTIC", None),
    "tanh": ("TANH", None),
    "elu": ("ELU", None),
    "exp": ("EXP", schema.ExpOptionsT),
    "quantize": ("QUANTIZE", schema.QuantizeOptionsT),
    "dequantize": ("DEQUANTIZE", schema.DequantizeOptionsT),
}
"""Op -> builtin operator and its options; operands in order, an `activation` attribute goes into the options."""


def row(e: Emitter, node: Node) -> None:
    """An op of `ROWS`."""
    name, options_class = ROWS[node.op.name]
    options = with_activation(options_class(), node) if options_class else None
    if layout_of(node) is Layout.BREAKING:
        operands = [e.plain(v) if v.const is None else e.constant(v) for v in node.inputs]
        e.into(node.output, lambda out: e.op(name, operands, out, node, options))
        return
    operands = [e.broadcast(v, node.output) for v in node.inputs]
    at_least = 3 if name == "MUL" and _mul_needs_version_3(node) else 1
    e.op(name, operands, e.result(node.output), node, options, at_least)


def _mul_needs_version_3(node: Node) -> bool:
    """Version 3 of MUL came for a requantisation factor of one or more."""
    a, b, out = (v.quant for v in (*node.inputs, node.output))
    return bool(a and b and out and a.scale[0] * b.scale[0] / out.scale[0] >= 1.0)


@spelling
def float_tail(e: Emitter, node: Node) -> None:
    """Nothing: in an int8 file a DEQUANTIZE stands before it."""
    e.alias(node.output, node.inputs[0])


for _name in ROWS:
    spelling(row, _name)


def clamped(e: Emitter, node: Node) -> None:
    """RELU, RELU6, or MAXIMUM and MINIMUM; in int8 QUANTIZE against the ends of the codes, which XNNPACK runs."""
    low, high = {"relu": (0.0, math.inf), "relu6": (0.0, 6.0)}.get(node.op.name) or (
        node.attrs["low"],
        node.attrs["high"],
    )
    x, y = node.inputs[0], node.output
    index, shape = e.stored(x), e.layouts.shape(y)
    if y.quant is not None:
        *shifts, _ = saturating_steps(y.quant, low, high)
        for number, params in enumerate(shifts):
            shifted = e.file.tensor(f"{y.name}/shift{number}", shape, "int8", params)
            e.op("QUANTIZE", [index], shifted, node, schema.QuantizeOptionsT())
            index = shifted
        e.op("QUANTIZE", [index], e.result(y), node, schema.QuantizeOptionsT())
    elif node.op.name != "clamp":
        e.op(node.op.name.upper(), [index], e.result(y), node)
    else:
        if math.isfinite(low):
            bound = e.file.constant(f"float32 {low}", np.array(low, np.float32))
            raised = e.file.tensor(f"{y.name}/low", shape, dtype_of(y)) if math.isfinite(high) else e.result(y)
            e.op("MAXIMUM", [index, bound], raised, node, schema.MaximumMinimumOptionsT())
            index = raised
        if math.isfinite(high):
            bound = e.file.constant(f"float32 {high}", np.array(high, np.float32))
            e.op("MINIMUM", [index, bound], e.result(y), node, schema.MaximumMinimumOptionsT())


for _name in ("relu", "relu6", "clamp"):
    spelling(clamped, _name)


@spelling
def hard_swish(e: Emitter, node: Node) -> None:
    """HARD_SWISH in float, which XNNPACK runs; quantize expands the op."""
    e.op("HARD_SWISH", [e.stored(node.inputs[0])], e.result(node.output), node, schema.HardSwishOptionsT())


@spelling
def silu(e: Emitter, node: Node) -> None:
    """LOGISTIC and MUL; XNNPACK runs the pair as one operator."""
    x = e.stored(node.inputs[0])
    gate = e.file.tensor(f"{node.output.name}/sigmoid", e.layouts.shape(node.output), dtype_of(node.output))
    e.op("LOGISTIC", [x], gate, node)
    e.op("MUL", [x, gate], e.result(node.output), node, schema.MulOptionsT())


@spelling
def mish(e: Emitter, node: Node) -> None:
    """x * n / (n + 2) with n = exp(x) * (exp(x) + 2), in float; from 20 on that is x. Quantize expands the op."""
    x, y = node.inputs[0], node.output
    shape = e.layouts.shape(y)
    two, limit = (e.file.constant(f"float32 {n}", np.array(n, np.float32)) for n in (2, 20))

    def step(name: str, operands: list[int], options: Any) -> int:
        index = e.file.tensor(f"{y.name}/{name.lower()}{len(e.file.subgraph.tensors)}", shape, "float32")
        e.op(name, operands, index, node, options)
        return index

    low = step("MINIMUM", [e.stored(x), limit], schema.MaximumMinimumOptionsT())
    power = step("EXP", [low], schema.ExpOptionsT())
    n = step("MUL", [power, step("ADD", [power, two], schema.AddOptionsT())], schema.MulOptionsT())
    gate = step("DIV", [n, step("ADD", [n, two], schema.AddOptionsT())], schema.DivOptionsT())
    e.op("MUL", [e.stored(x), gate], e.result(y), node, schema.MulOptionsT())


@spelling
def gelu(e: Emitter, node: Node) -> None:
    """GELU. XNNPACK takes it in float32 only: in int8 TFLite's own kernel runs it, between partitions.

    The 14 of FasterNet-T0 are 4 to 6 % of its int8 profile (LiteRT 2.3, x86). Tried instead, each one table within the
    delegate, 3.5 % less CPU time for the network: DEQUANTIZE -> GELU -> QUANTIZE, the same codes, but float tensors in
    an int8 file; x * sigmoid(1.702 x) and x * sigmoid(x * (1.596 + 0.0713 x^2)), all integer, but up to 1.4 and 1.7
    codes from GELU (0.5 here), which costs the network 1.2 and 0.5 of its 29.6 dB.
    """
    options = schema.GeluOptionsT()
    options.approximate = node.attrs["approximate"] == "tanh"
    e.op("GELU", [e.stored(node.inputs[0])], e.result(node.output), node, options)


@spelling
def leaky_relu(e: Emitter, node: Node) -> None:
    options = schema.LeakyReluOptionsT()
    options.alpha = node.attrs["negative_slope"]
    e.op("LEAKY_RELU", [e.stored(node.inputs[0])], e.result(node.output), node, options)


@spelling
def softmax(e: Emitter, node: Node) -> None:
    """SOFTMAX works on the last stored dim; another one changes places with it, before and after.

    XNNPACK has no int8 softmax: TFLite's own kernel takes 10 ns per element (one thread of an AVX2 machine, LiteRT
    2.3). Attention has another form in int8: exporter/quantize/attention.py.
    """
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    x, y = node.inputs[0], node.output
    dim, last = e.layouts.dim(x, node.attrs["dim"]), len(x.shape) - 1
    if dim == last:
        e.op("SOFTMAX", [e.stored(x)], e.result(y), node, options)
        return
    swap = list(range(last + 1))
    swap[dim], swap[last] = last, dim
    shape = [e.layouts.shape(x)[d] for d in swap]
    moved = e.file.tensor(f"{y.name}/moved", shape, dtype_of(x), x.quant)
    softened = e.file.tensor(f"{y.name}/softened", shape, dtype_of(y), y.quant)
    e.op("TRANSPOSE", [e.stored(x), e.numbers(swap)], moved, node, schema.TransposeOptionsT())
    e.op("SOFTMAX", [moved], softened, node, options)
    e.op("TRANSPOSE", [softened, e.numbers(swap)], e.result(y), node, schema.TransposeOptionsT())
