"""Moving whole channels, without TRANSPOSE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from exporter.ir.graph import Node
from exporter.ir.ops import Ints
from exporter.ir.quant import QuantParams
from exporter.lower.tflite.emit import Emitter, dtype_of, spelling

ROW = 90
"""Multiplications that XNNPACK does while it copies one short row (x86, AVX2: 33 a nanosecond, 2.7 ns a row)."""
JOINED = 8
"""The same for one channel of a pixel that is sliced and joined in long rows."""


@spelling
def gather_channels(e: Emitter, node: Node) -> None:
    """A 1x1 convolution whose weight is a matrix of zeros and ones.

    Exact: in float each output is one input times 1 plus zeros; in int8 the weight's scale is 1, so the codes come out
    as they went in. A shuffle of many channels is done in two steps, which need fewer multiplications: groups exchange
    short runs (SLICE, CONCATENATION), then a small convolution shuffles within blocks of the result. For 2 groups at
    32x24x80 the one step takes 111 us and the two take 42 (float, one thread of an AVX2 machine; TRANSPOSE 35, PACK or
    CONCATENATION of single channels 170); at 64x48x40 the one step takes 136 (TRANSPOSE 104, the others 340).
    """
    x, channels = node.inputs[0], node.attrs["channels"]
    groups, run = _blocks(channels, x.shape[1])
    if not run:
        _convolve(e, node, e.stored(x), channels, x.shape[1], e.result(node.output))
        return
    length, block = len(channels) // groups, groups * run
    pixels = x.shape[0] * x.shape[2] * x.shape[3]
    lanes = []
    for start in channels[:groups]:
        begin, size = [0, 0, 0, start], [x.shape[0], *x.shape[2:], length]
        lane = _step(e, node, "SLICE", [e.stored(x), e.numbers(begin), e.numbers(size)], size, schema.SliceOptionsT())
        lanes.append(_reshaped(e, node, lane, [pixels * length // run, run]))
    options = schema.ConcatenationOptionsT()
    options.axis = 1
    joined = _step(e, node, "CONCATENATION", lanes, [pixels * length // run, block], options)
    shape = [1, pixels, length // run, block]
    result = e.file.tensor(f"{node.output.name}/blocks", shape, dtype_of(x), x.quant)
    shuffle = tuple(np.arange(block).reshape(groups, run).T.flatten().tolist())
    _convolve(e, node, _reshaped(e, node, joined, shape), shuffle, block, result)
    _reshaped(e, node, result, e.layouts.shape(node.output), e.result(node.output))


def _blocks(channels: Ints, inputs: int) -> tuple[int, int]:
    """Groups of a shuffle and the run that they exchange; (1, 0) where one convolution is faster.

    A shuffle here: of every `groups` channels the i-th are consecutive channels of the input.
    """
    count, best, cost = len(channels), (1, 0), _multiplications(inputs, len(channels))
    for groups in (g for g in range(2, 6) if count % g == 0):
        if all(channels[i] == channels[i % groups] + i // groups for i in range(count)):
            for run in (r for r in range(1, count // groups) if count // groups % r == 0):
                if (now := ROW / run + _multiplications(groups * run, groups * run) + JOINED) < cost:
                    best, cost = (groups, run), now
    return best


def _multiplications(inputs: int, outputs: int) -> float:
    """Of a 1x1 convolution, for one output, with the inputs rounded up to 8 and the outputs to 16, as kernels do."""
    return -(-inputs // 8) * 8 * -(-outputs // 16) * 16 / outputs


def _convolve(e: Emitter, node: Node, source: int, channels: Sequence[int], inputs: int, result: int) -> None:
    outputs, quant = len(channels), node.output.quant
    matrix = np.zeros((outputs, 1, 1, inputs), np.float32)
    matrix[range(outputs), 0, 0, channels] = 1
    name = f"gather {outputs} of {inputs}"
    if quant is None:
        filters = e.file.constant(name, matrix)
        bias = e.file.constant(f"{name}/bias", np.zeros(outputs, np.float32))
    else:
        derived = QuantParams(quant.scale * outputs, 0, axis=0, dtype="int32")
        filters = e.file.constant(name, matrix.astype(np.int8), QuantParams((1.0,) * outputs, 0, axis=0))
        bias = e.file.constant(f"{name}/bias", np.zeros(outputs, np.int32), derived)
    options = schema.Conv2DOptionsT()
    options.padding, options.strideH, options.strideW = schema.Padding.VALID, 1, 1
    e.op("CONV_2D", [source, filters, bias], result, node, options)


def _step(e: Emitter, node: Node, name: str, inputs: list[int], shape: Sequence[int], options: Any) -> int:
    index = e.file.tensor(f"{node.output.name}/{name.lower()}", shape, dtype_of(node.output), node.output.quant)
    e.op(name, inputs, index, node, options)
    return index


def _reshaped(e: Emitter, node: Node, source: int, shape: Sequence[int], result: int | None = None) -> int:
    options = schema.ReshapeOptionsT()
    options.newShape = np.asarray(shape, np.int32)
    operands = [source, e.numbers(list(shape))]
    if result is None:
        return _step(e, node, "RESHAPE", operands, shape, options)
    e.op("RESHAPE", operands, result, node, options)
    return result
