"""Which float type every node computes in.

A FLOAT32 program computes in float32 throughout. A FLOAT16 program computes its body in float16 and, in float32:

- what comes in and goes out: quantize reads a float32 input as it is, dequantize gives a float32 output;
- the float tail: float16 holds a coordinate of 512 to 1024 pixels to half a pixel;
- every node with a number that float16 turns into infinity or 0, and what follows it up to the next product of
  matrices, which would see the number again;
- an int8 sum of operands so much larger than its result that their own rounding would move it by a whole code.
"""

from __future__ import annotations

import numpy as np

from exporter.ir.graph import Graph, Node, Value

LARGEST, SMALLEST = 65504.0, 2.0**-25
"""What float16 holds: beyond, a number becomes infinite; from here down, 0."""
ROUNDING = 2.0**-11
"""Largest relative error of a number in float16, outside its subnormal ones."""


def float_types(graph: Graph, arithmetic: str) -> dict[Node, str]:
    """Node -> float16 or float32. Of dequantize it is the type of the result, of quantize that of the operand."""
    if arithmetic == "float32":
        return dict.fromkeys(graph.nodes, "float32")
    tail, outside = graph.tail(), {*map(id, graph.inputs), *map(id, graph.outputs)}
    found: dict[Node, str] = {}
    wide: set[int] = set()
    for node in graph.nodes:
        follows = _lost(node) or (not _multiplies(node) and any(id(v) in wide for v in node.inputs))
        if follows:
            wide.update(id(v) for v in node.outputs if v.quant is None)
        if node.op.name == "quantize" and node.inputs[0].quant is None:
            given = node.inputs[0].producer
            exact = given is None or found[given] == "float32"
        elif node.op.name == "dequantize":
            exact = id(node.output) in outside or any(reader in tail for reader in node.output.uses)
        else:
            exact = node in tail
        found[node] = "float32" if exact or follows else "float16"
    return found


def _multiplies(node: Node) -> bool:
    return node.op.data_inputs == 1 or node.op.name == "matmul"


def _lost(node: Node) -> bool:
    """Whether float16 cannot hold what the node computes with."""
    if any(map(_too_large, [*node.inputs, *node.outputs])):
        return True
    if any(isinstance(a, float) and _vanishes(np.float64(a)) for a in node.attrs.values()):
        return True
    if not _multiplies(node) and any(
        v.quant is None and _vanishes(_array(v)) for v in node.inputs if v.const is not None
    ):
        return True
    params = node.outputs[0].quant
    if node.op.name not in ("add", "sub") or params is None:
        return False
    largest = sum(max(map(abs, v.quant.range)) for v in node.inputs if v.quant is not None)
    return largest * ROUNDING > params.scale[0]


def _too_large(value: Value) -> bool:
    """Whether a constant, or the range of codes, has numbers beyond float16."""
    if value.quant is not None and value.quant.dtype != "int32" and value.quant.axis is None:
        return max(map(abs, value.quant.range)) > LARGEST
    if value.const is None:
        return False
    real = np.abs(_array(value) * np.array(value.quant.scale if value.quant and value.quant.dtype == "int32" else 1.0))
    return bool(((real > LARGEST) & (real < np.inf)).any())


def _vanishes(numbers: np.ndarray | np.float64) -> bool:
    """Whether all are 0 in float16 and were not, or some too large; infinity stays what it is.

    A small one among others may become 0.
    """
    size = np.abs(np.atleast_1d(numbers))
    return bool(((size > LARGEST) & (size < np.inf)).any() or 0 < size.max(initial=0) <= SMALLEST)


def _array(value: Value) -> np.ndarray:
    assert value.const is not None
    return value.const.numpy().astype(np.float64)
