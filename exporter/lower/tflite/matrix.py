"""Products of two activations, and normalisation by statistics of the input."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from exporter.ir.graph import Node
from exporter.lower.tflite.emit import Emitter, dtype_of, spelling
from exporter.lower.tflite.windows import reducer


@spelling
def matmul(e: Emitter, node: Node) -> None:
    """BATCH_MATMUL broadcasts leading dims like torch; a transposed second operand costs nothing."""
    a, b = node.inputs
    options = schema.BatchMatMulOptionsT()
    options.adjY = node.attrs["transpose_b"]
    e.into(node.output, lambda out: e.op("BATCH_MATMUL", [e.plain(a), e.plain(b)], out, node, options))


@spelling
def layer_norm(e: Emitter, node: Node) -> None:
    """MEAN, SUB, MUL, MEAN, ADD, RSQRT, MUL, and MUL and ADD for a weight and a bias that do something.

    All of them run in XNNPACK; quantised graphs hold no layer_norm (quantize splits it).
    """
    x, weight, bias = node.inputs
    assert weight.const is not None
    assert bias.const is not None
    dims = node.attrs["dims"]
    stored = e.layouts.shape(x)
    axes = sorted(e.layouts.dim(x, d) for d in dims)
    one_each = tuple(1 if d in axes else n for d, n in enumerate(stored))

    def step(name: str, op: str, inputs: list[int], options: object, shape: tuple[int, ...]) -> int:
        out = e.file.tensor(f"{node.output.name}/{name}", shape, dtype_of(x)) if name else e.result(node.output)
        e.op(op, inputs, out, node, options)
        return out

    scales, shifts = bool((weight.const != 1).any()), bool((bias.const != 0).any())
    source = e.stored(x)
    mean = step("mean", "MEAN", [source, e.numbers(axes)], reducer(True), one_each)
    centred = step("centred", "SUB", [source, mean], schema.SubOptionsT(), stored)
    squares = step("squares", "MUL", [centred, centred], schema.MulOptionsT(), stored)
    variance = step("variance", "MEAN", [squares, e.numbers(axes)], reducer(True), one_each)
    eps = e.file.constant(f"float32 {node.attrs['eps']}", np.asarray(node.attrs["eps"], np.float32))
    shifted = step("shifted", "ADD", [variance, eps], schema.AddOptionsT(), one_each)
    factor = step("factor", "RSQRT", [shifted], None, one_each)
    y = step("normalised" if scales or shifts else "", "MUL", [centred, factor], schema.MulOptionsT(), stored)
    if scales:
        operand = e.aligned_on(weight, dims, node.output)
        y = step("scaled" if shifts else "", "MUL", [y, operand], schema.MulOptionsT(), stored)
    if shifts:
        step("", "ADD", [y, e.aligned_on(bias, dims, node.output)], schema.AddOptionsT(), stored)
