"""Ops that move elements and compute nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema

from exporter.ir.graph import Node
from exporter.lower.tflite.emit import Emitter, dtype_of, spelling
from exporter.lower.tflite.layout import NHWC, same_bytes


@spelling
def pad(e: Emitter, node: Node) -> None:
    x = node.inputs[0]
    widths = list(zip(node.attrs["before"], node.attrs["after"], strict=True))
    operands = [e.stored(x), e.numbers(e.layouts.per_dim(x, tuple(widths)))]  # type: ignore[arg-type]
    if node.attrs["value"] == 0:
        e.op("PAD", operands, e.result(node.output), node, schema.PadOptionsT())
        return
    value = torch.tensor([node.attrs["value"]])
    fill = x.quant.quantize(value).numpy() if x.quant else value.numpy()
    operands.append(e.file.constant(f"{dtype_of(x)} {fill[0]}", fill, x.quant))
    e.op("PADV2", operands, e.result(node.output), node, schema.PadV2OptionsT())


@spelling
def slice_(e: Emitter, node: Node) -> None:
    """SLICE; STRIDED_SLICE where the step is not 1 and does not divide the size."""
    x, attrs = node.inputs[0], node.attrs
    rank = len(x.shape)
    count = node.output.shape[attrs["dim"]]
    if attrs["step"] > 1 and attrs["start"] < attrs["step"] and count * attrs["step"] == x.shape[attrs["dim"]]:
        _columns(e, node)
        return
    begin, end, step = [0] * rank, list(x.shape), [1] * rank
    begin[attrs["dim"]], end[attrs["dim"]], step[attrs["dim"]] = attrs["start"], attrs["end"], attrs["step"]
    begin, end, step = (e.layouts.per_dim(x, tuple(items)) for items in (begin, end, step))
    if attrs["step"] == 1:
        sizes = [last - first for first, last in zip(begin, end, strict=True)]
        operands = [e.stored(x), e.numbers(begin), e.numbers(sizes)]
        e.op("SLICE", operands, e.result(node.output), node, schema.SliceOptionsT())
    else:
        operands = [e.stored(x), e.numbers(begin), e.numbers(end), e.numbers(step)]
        e.op("STRIDED_SLICE", operands, e.result(node.output), node, schema.StridedSliceOptionsT())


def _columns(e: Emitter, node: Node) -> None:
    """Every step-th element as columns of a matrix: RESHAPE, SLICE, RESHAPE. XNNPACK takes no step but 1."""
    x, y, attrs = node.inputs[0], node.output, node.attrs
    stored, at = e.layouts.shape(x), e.layouts.dim(x, attrs["dim"])
    inner = math.prod(stored[at + 1 :])
    rows = math.prod(stored[:at]) * y.shape[attrs["dim"]]

    def reshaped(source: int, shape: tuple[int, ...], out: int) -> None:
        options = schema.ReshapeOptionsT()
        options.newShape = np.asarray(shape, np.int32)
        e.op("RESHAPE", [source, e.numbers(shape)], out, node, options)

    matrix = e.file.tensor(f"{y.name}/matrix", (rows, attrs["step"] * inner), dtype_of(x), x.quant)
    columns = e.file.tensor(f"{y.name}/columns", (rows, inner), dtype_of(x), x.quant)
    reshaped(e.stored(x), (rows, attrs["step"] * inner), matrix)
    begin, sizes = e.numbers(0, attrs["start"] * inner), e.numbers(rows, inner)
    e.op("SLICE", [matrix, begin, sizes], columns, node, schema.SliceOptionsT())
    reshaped(columns, e.layouts.shape(y), e.result(y))


LONGEST_CONCAT = 5
"""Operands of a CONCATENATION that XNNPACK takes."""


@spelling
def concat(e: Emitter, node: Node) -> None:
    """One CONCATENATION; of more operands than XNNPACK takes, the smallest neighbours are joined first."""
    dim, y = node.attrs["dim"], node.output
    options = schema.ConcatenationOptionsT()
    options.axis = e.layouts.dim(y, dim)
    operands = [(e.aligned(v, y), v.shape[dim]) for v in node.inputs]
    while len(operands) > LONGEST_CONCAT:
        count = min(LONGEST_CONCAT, len(operands) - LONGEST_CONCAT + 1)
        sizes = [sum(size for _, size in operands[i : i + count]) for i in range(len(operands) - count + 1)]
        at = sizes.index(min(sizes))
        shape = list(e.layouts.shape(y))
        shape[options.axis] = sizes[at]
        joined = e.file.tensor(f"{y.name}/joined{len(operands)}", shape, dtype_of(y), y.quant)
        e.op("CONCATENATION", [index for index, _ in operands[at : at + count]], joined, node, options)
        operands[at : at + count] = [(joined, sizes[at])]
    e.op("CONCATENATION", [index for index, _ in operands], e.result(y), node, options)


@spelling
def reshape(e: Emitter, node: Node) -> None:
    x, shape = node.inputs[0], node.attrs["shape"]
    source = e.stored(x) if len(x.shape) == 4 and same_bytes(x.shape) else e.plain(x)

    def write(out: int, shape: Sequence[int] = shape) -> None:
        options = schema.ReshapeOptionsT()
        options.newShape = np.asarray(shape, np.int32)
        e.op("RESHAPE", [source, e.numbers(shape)], out, node, options)

    if e.layouts.is_nhwc(node.output) and same_bytes(shape):
        write(e.result(node.output), e.layouts.shape(node.output))
    else:
        e.into(node.output, write)


@spelling
def depth_to_space(e: Emitter, node: Node) -> None:
    options = schema.DepthToSpaceOptionsT()
    options.blockSize = node.attrs["block"]
    e.op("DEPTH_TO_SPACE", [e.stored(node.inputs[0])], e.result(node.output), node, options)


@spelling
def space_to_depth(e: Emitter, node: Node) -> None:
    options = schema.SpaceToDepthOptionsT()
    options.blockSize = node.attrs["block"]
    e.op("SPACE_TO_DEPTH", [e.stored(node.inputs[0])], e.result(node.output), node, options)


@spelling
def transpose(e: Emitter, node: Node) -> None:
    """One TRANSPOSE from storage order to storage order, whatever both are; none where the two orders cancel it."""
    x, y, perm = node.inputs[0], node.output, node.attrs["perm"]
    order = NHWC if e.layouts.is_nhwc(y) else tuple(range(len(perm)))
    stored_perm = [e.layouts.dim(x, perm[d]) for d in order]
    if stored_perm == sorted(stored_perm):
        e.alias(y, x)
        return
    e.op("TRANSPOSE", [e.stored(x), e.numbers(stored_perm)], e.result(y), node, schema.TransposeOptionsT())
