"""Convolutions, pools, means and resampling: geometry."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema

from exporter.ir.depthwise import is_depthwise, row_pieces
from exporter.ir.graph import Node, Value
from exporter.ir.ops import Layout, uncounted
from exporter.ir.quant import QuantParams
from exporter.lower.tflite.emit import Emitter, dtype_of, spelling, with_activation
from exporter.lower.tflite.geometry import Window, same_pads, window_of
from exporter.lower.tflite.layout import NHWC, layout_of

WIDEST = 8
"""Channels of a group up to which neighbouring groups are joined."""
LOWEST = {"float32": np.float32(np.finfo(np.float32).min), "int8": np.int8(-128)}


@spelling
def conv2d(e: Emitter, node: Node) -> None:
    """Weight [O,I/g,kh,kw] is stored [O,kh,kw,I/g], small groups joined; depthwise as [1,kh,kw,O]."""
    x, weight, bias = node.inputs
    assert weight.const is not None
    if x.quant is None and row_pieces(node):
        _in_rows(e, node)
        return
    window = window_of(node)
    source = padded(e, node, window, None)
    depthwise = is_depthwise(node)
    options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
    _fill_window(options, window)
    options.dilationHFactor, options.dilationWFactor = node.attrs["dilation"]
    with_activation(options, node)
    if depthwise:
        options.depthMultiplier = weight.shape[0] // x.shape[1]
        array = weight.const.numpy().transpose(1, 2, 3, 0)
        filters = e.constant(weight, array, _on_axis(weight.quant, 3))
        at_least = 2 if node.attrs["dilation"] != (1, 1) else 1
        e.op("DEPTHWISE_CONV_2D", [source, filters, e.constant(bias)], e.result(node.output), node, options, at_least)
    else:
        array, groups = joined_groups(weight.const.numpy(), node.attrs["groups"])
        filters = e.constant(weight, array.transpose(0, 2, 3, 1), weight.quant)
        at_least = 6 if groups > 1 else 1
        e.op("CONV_2D", [source, filters, e.constant(bias)], e.result(node.output), node, options, at_least)


def joined_groups(weight: np.ndarray, groups: int) -> tuple[np.ndarray, int]:
    """Weight [O,I/g,kh,kw] and groups of the same convolution with neighbouring groups joined, zeros between them, as
    long as a group has at most 8 channels on either side: the kernels compute 8 at once, and a narrower group wastes
    the rest. Adding zeros changes no sum.

    3x3 over 64x64 pixels, one thread, AVX2, float32 and int8 ms: 128 channels in 32 groups 2.49 and 3.14, in 16 groups
    of 8 2.31 and 1.52, in 8 of 16 8.92 and 2.38, dense 29 and 16; cut into 32 convolutions 3.03 and 6.40. 64 channels
    in 32 groups 1.12 and 3.03, in 8 groups 0.68 and 0.74. Groups of 8 channels and more are best left alone. XNNPACK
    takes a CONV_2D with groups in float and int8 (seen in LiteRT 1.0.1 and 2.3; in tflite-runtime 2.14 in float).
    """
    outputs, inputs = weight.shape[0] // groups, weight.shape[1]
    join = max(n for n in range(1, groups + 1) if groups % n == 0 and (n == 1 or n * max(outputs, inputs) <= WIDEST))
    joined = np.zeros((weight.shape[0], join * inputs, *weight.shape[2:]), weight.dtype)
    for group in range(groups):
        rows = slice(group * outputs, (group + 1) * outputs)
        first = group % join * inputs
        joined[rows, first : first + inputs] = weight[rows]
    return joined, groups // join


def _in_rows(e: Emitter, node: Node) -> None:
    """A large depthwise kernel as a sum over pieces of its rows: see `exporter.ir.depthwise`."""
    x, weight, bias = node.inputs
    assert weight.const is not None
    (top, bottom, left, right), pieces = node.attrs["padding"], row_pieces(node)
    shape = [x.shape[0], x.shape[2] + top + bottom, x.shape[3] + left + right, x.shape[1]]
    name, array, source = node.output.name, weight.const.numpy().transpose(1, 2, 3, 0), e.stored(x)
    if any(node.attrs["padding"]):
        widths = e.numbers([[0, 0], [top, bottom], [left, right], [0, 0]])
        index = e.file.tensor(f"{name}/pad", shape, dtype_of(x))
        e.op("PAD", [source, widths], index, node, schema.PadOptionsT())
        source = index
    options = schema.DepthwiseConv2DOptionsT()
    _fill_window(options, Window(node.attrs["stride"], same=False))
    options.dilationHFactor, options.dilationWFactor = node.attrs["dilation"]
    options.depthMultiplier = weight.shape[0] // x.shape[1]
    at_least = 2 if node.attrs["dilation"] != (1, 1) else 1
    result, total = e.layouts.shape(node.output), -1
    for number, piece in enumerate(pieces):
        seen = [shape[0], piece.end - piece.start, *shape[2:]]
        rows = e.file.tensor(f"{name}/slice{number}", seen, dtype_of(x))
        e.op("SLICE", [source, e.numbers(0, piece.start, 0, 0), e.numbers(seen)], rows, node, schema.SliceOptionsT())
        taps = Value(f"{weight.name}/{number}", (), const=weight.const[:, :, piece.first : piece.last])
        filters = e.constant(taps, np.ascontiguousarray(array[:, piece.first : piece.last]))
        offset = bias if not number else Value(f"{bias.name}/0", bias.shape, const=torch.zeros(bias.shape))
        part = e.file.tensor(f"{name}/rows{number}", result, dtype_of(x))
        e.op("DEPTHWISE_CONV_2D", [rows, filters, e.constant(offset)], part, node, options, at_least)
        if number:
            last = number == len(pieces) - 1
            added = with_activation(schema.AddOptionsT(), node) if last else schema.AddOptionsT()
            out = e.result(node.output) if last else e.file.tensor(f"{name}/sum{number}", result, dtype_of(x))
            e.op("ADD", [total, part], out, node, added)
            part = out
        total = part


@spelling
def linear(e: Emitter, node: Node) -> None:
    """FULLY_CONNECTED stores its weight like torch."""
    x, weight, bias = node.inputs
    options = with_activation(schema.FullyConnectedOptionsT(), node)
    options.keepNumDims = len(x.shape) != 2
    at_least = 5 if options.keepNumDims else 1
    operands = [e.plain(x), e.constant(weight), e.constant(bias)]
    e.into(node.output, lambda out: e.op("FULLY_CONNECTED", operands, out, node, options, at_least))


@spelling
def conv_transpose2d(e: Emitter, node: Node) -> None:
    """TRANSPOSE_CONV as SAME where that cuts the result as the node does, else as VALID, and a SLICE where it cuts."""
    x, weight, bias = node.inputs
    y, stride = node.output, node.attrs["stride"]
    assert weight.const is not None
    size, kernel = y.shape[2:], weight.shape[2:]
    top, bottom, left, right = pads = node.attrs["padding"]
    options = with_activation(schema.TransposeConvOptionsT(), node)
    options.strideH, options.strideW = stride
    same = same_pads(size[0], kernel[0], stride[0]) + same_pads(size[1], kernel[1], stride[1])
    fits = pads == same and tuple(n * s for n, s in zip(x.shape[2:], stride, strict=True)) == size
    options.padding = schema.Padding.SAME if fits else schema.Padding.VALID
    whole = size if fits else (size[0] + max(top, 0) + max(bottom, 0), size[1] + max(left, 0) + max(right, 0))
    shape = (y.shape[0], *whole, y.shape[1])
    cuts = whole != size
    target = e.file.tensor(f"{y.name}/whole", shape, dtype_of(y), y.quant) if cuts else e.result(y)
    filters = e.constant(weight, weight.const.numpy().transpose(0, 2, 3, 1), weight.quant)
    at_least = 3 if node.attrs["activation"] == "none" else 4
    operands = [e.numbers(shape), filters, e.stored(x), e.constant(bias)]
    e.op("TRANSPOSE_CONV", operands, target, node, options, at_least)
    if cuts:
        begin, extent = e.numbers([0, max(top, 0), max(left, 0), 0]), e.numbers(e.layouts.shape(y))
        e.op("SLICE", [target, begin, extent], e.result(y), node, schema.SliceOptionsT())


def _on_axis(quant: QuantParams | None, axis: int) -> QuantParams | None:
    return None if quant is None else QuantParams(quant.scale, quant.zero_point, axis, quant.dtype)


def _fill_window(options: Any, window: Window) -> None:
    options.padding = schema.Padding.SAME if window.same else schema.Padding.VALID
    options.strideH, options.strideW = window.stride


def padded(e: Emitter, node: Node, window: Window, value: Any) -> int:
    """The node's input, behind a PAD (zero point) or PADV2 (`value`) where the op itself cannot pad like this."""
    x = node.inputs[0]
    if not any(window.explicit):
        return e.stored(x)
    top, bottom, left, right = window.explicit
    shape = (x.shape[0], x.shape[2] + top + bottom, x.shape[3] + left + right, x.shape[1])
    index = e.file.tensor(f"{node.output.name}/pad", shape, dtype_of(x), x.quant)
    widths = e.numbers([[0, 0], [top, bottom], [left, right], [0, 0]])
    if value is None:
        e.op("PAD", [e.stored(x), widths], index, node, schema.PadOptionsT())
    else:
        fill = e.file.constant(f"{dtype_of(x)} lowest", np.asarray([value]), x.quant)
        e.op("PADV2", [e.stored(x), widths, fill], index, node, schema.PadV2OptionsT())
    return index


@spelling
def max_pool2d(e: Emitter, node: Node) -> None:
    _pool(e, node, "MAX_POOL_2D", LOWEST[dtype_of(node.inputs[0])], e.result(node.output))


@spelling
def avg_pool2d(e: Emitter, node: Node) -> None:
    """Float: quantize expands the op. Padding is not counted, in TFLite as in the op's meaning; an explicit PAD is, and
    the mean is then taken times the share of the window that lies inside the image.
    """
    window = window_of(node)
    if not any(window.explicit):
        _pool(e, node, "AVERAGE_POOL_2D", None, e.result(node.output))
        return
    shape = e.layouts.shape(node.output)
    counted = e.file.tensor(f"{node.output.name}/counted", shape, dtype_of(node.output))
    _pool(e, node, "AVERAGE_POOL_2D", None, counted)
    image = torch.empty(1, 1, *node.inputs[0].shape[2:])
    share = uncounted(image, node.attrs["kernel"], node.attrs["stride"], node.attrs["padding"])
    operands = [counted, e.file.constant("share", share.numpy().transpose(NHWC))]
    e.op("MUL", operands, e.result(node.output), node, schema.MulOptionsT())


def _pool(e: Emitter, node: Node, name: str, lowest: Any, out: int) -> None:
    window = window_of(node)
    height, width = node.attrs["kernel"]
    narrow = all(
        pads < min(kernel, 3) for pads, kernel in zip(window.explicit, (height, height, width, width), strict=True)
    )
    replicates = lowest is not None and narrow
    source = replicated(e, node, window) if replicates else padded(e, node, window, lowest)
    options = schema.Pool2DOptionsT()
    _fill_window(options, window)
    options.filterHeight, options.filterWidth = node.attrs["kernel"]
    e.op(name, [source], out, node, options)


def replicated(e: Emitter, node: Node, window: Window) -> int:
    """A max-pool's input with its border rows and columns repeated instead of padded with the lowest value.

    Every window that reaches into the padding holds the border too, so the maximum is the same; and XNNPACK runs SLICE
    and CONCATENATION (up to 5 operands), but no PADV2, whose copies and delegate borders took 0.9 % of EfficientDet-D0.
    """
    x = node.inputs[0]
    index, shape = e.stored(x), list(e.layouts.shape(x))
    for axis, (before, after) in ((1, window.explicit[:2]), (2, window.explicit[2:])):
        if not before and not after:
            continue
        operands = [_border(e, node, index, shape, axis, 0)] * before if before else []
        operands += [index]
        operands += [_border(e, node, index, shape, axis, shape[axis] - 1)] * after if after else []
        shape[axis] += before + after
        options = schema.ConcatenationOptionsT()
        options.axis = axis
        index = e.file.tensor(f"{node.output.name}/border{axis}", shape, dtype_of(x), x.quant)
        e.op("CONCATENATION", operands, index, node, options)
    return index


def _border(e: Emitter, node: Node, source: int, shape: list[int], axis: int, at: int) -> int:
    begin, size = [0] * 4, list(shape)
    begin[axis], size[axis] = at, 1
    x = node.inputs[0]
    index = e.file.tensor(f"{node.output.name}/slice{axis}.{at}", size, dtype_of(x), x.quant)
    e.op("SLICE", [source, e.numbers(begin), e.numbers(size)], index, node, schema.SliceOptionsT())
    return index


@spelling
def mean(e: Emitter, node: Node) -> None:
    """MEAN; over a whole float image in two steps, rows first.

    The runtime adds floats one after the other: 65,536 of them leave 82 dB, two times 256 more than 130. int8 sums are
    exact, and two steps would round twice.
    """
    x = node.inputs[0]
    if layout_of(node) is Layout.BREAKING:
        operands = [e.plain(x), e.numbers(sorted(node.attrs["dims"]))]
        e.into(node.output, lambda out: e.op("MEAN", operands, out, node, reducer(node.attrs["keepdim"])))
        return
    source, axes = e.stored(x), sorted(e.layouts.dim(x, d) for d in node.attrs["dims"])
    if node.output.quant is None and axes == [1, 2]:
        rows = e.file.tensor(f"{node.output.name}/rows", (x.shape[0], 1, x.shape[3], x.shape[1]), dtype_of(x))
        e.op("MEAN", [source, e.numbers([1])], rows, node, reducer(True))
        if node.attrs["keepdim"]:
            e.op("MEAN", [rows, e.numbers([2])], e.result(node.output), node, reducer(True))
            return
        source, axes = rows, [1, 2]
    e.op("MEAN", [source, e.numbers(axes)], e.result(node.output), node, reducer(node.attrs["keepdim"]))


@spelling
def amax(e: Emitter, node: Node) -> None:
    x, options = node.inputs[0], reducer(node.attrs["keepdim"])
    if layout_of(node) is Layout.BREAKING:
        operands = [e.plain(x), e.numbers(sorted(node.attrs["dims"]))]
        e.into(node.output, lambda out: e.op("REDUCE_MAX", operands, out, node, options))
        return
    axes = sorted(e.layouts.dim(x, d) for d in node.attrs["dims"])
    e.op("REDUCE_MAX", [e.stored(x), e.numbers(axes)], e.result(node.output), node, options)


def reducer(keep_dims: bool) -> Any:
    options = schema.ReducerOptionsT()
    options.keepDims = keep_dims
    return options


@spelling
def resize_bilinear(e: Emitter, node: Node) -> None:
    options = schema.ResizeBilinearOptionsT()
    options.alignCorners = node.attrs["align_corners"]
    options.halfPixelCenters = not node.attrs["align_corners"]
    operands = [e.stored(node.inputs[0]), e.numbers(node.attrs["size"])]
    at_least = 3 if options.halfPixelCenters else 1
    e.op("RESIZE_BILINEAR", operands, e.result(node.output), node, options, at_least)
