"""One spelling per op: how a node of the graph is written as TFLite operators.

Simple ops are rows of `ROWS`; geometry gets functions. Storage order is decided in `layout.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema

from exporter.ir.graph import Graph, Node, Value
from exporter.ir.ops import Layout
from exporter.ir.quant import QuantParams
from exporter.lower.tflite.file import ModelFile
from exporter.lower.tflite.geometry import Window, window_of
from exporter.lower.tflite.layout import NHWC, Layouts, layout_of, same_bytes
from exporter.lower.tflite.versions import version_of, version_of_rank

ACTIVATIONS = {
    "none": schema.ActivationFunctionType.NONE,
    "relu": schema.ActivationFunctionType.RELU,
    "relu6": schema.ActivationFunctionType.RELU6,
}
LOWEST = {"float32": np.float32(np.finfo(np.float32).min), "int8": np.int8(-128)}

ROWS: dict[str, tuple[str, Callable[[], Any] | None]] = {
    "add": ("ADD", schema.AddOptionsT),
    "sub": ("SUB", schema.SubOptionsT),
    "mul": ("MUL", schema.MulOptionsT),
    "div": ("DIV", schema.DivOptionsT),
    "relu": ("RELU", None),
    "relu6": ("RELU6", None),
    "sigmoid": ("LOGISTIC", None),
    "tanh": ("TANH", None),
    "hard_swish": ("HARD_SWISH", schema.HardSwishOptionsT),
    "quantize": ("QUANTIZE", schema.QuantizeOptionsT),
    "dequantize": ("DEQUANTIZE", schema.DequantizeOptionsT),
}
"""Op -> builtin operator and its options; operands in order, an `activation` attribute goes into the options."""

Spelling = Callable[["Emitter", Node], None]
SPELLINGS: dict[str, Spelling] = {}


def spelling(function: Spelling) -> Spelling:
    """Register the decorated function for the op of its name (a trailing underscore is dropped)."""
    SPELLINGS[function.__name__.rstrip("_")] = function
    return function


class Emitter:
    """Writes the nodes of one graph into a ModelFile."""

    def __init__(self, graph: Graph, *, float16_weights: bool = False) -> None:
        self.graph = graph
        self.layouts = Layouts(graph)
        self.file = ModelFile(graph.name)
        self.float16_weights = float16_weights
        self._index: dict[int, int] = {}
        self._plain: dict[int, int] = {}
        self._float16: dict[int, int] = {}
        self._output_names = {id(v): n for n, v in zip(graph.output_names, graph.outputs, strict=True)}
        for value in graph.inputs:
            self._index[id(value)] = self._new(value)
        for node in graph.nodes:
            SPELLINGS.get(node.op.name, row)(self, node)

    # --- tensors ------------------------------------------------------------------------------------------------------
    def stored(self, value: Value) -> int:
        """Index of the tensor that holds an activation in its storage order."""
        if value.const is not None:
            return self.constant(value)
        return self._index[id(value)]

    def result(self, value: Value) -> int:
        """A new tensor for a node's output, in its storage order."""
        self._index[id(value)] = index = self._new(value)
        return index

    def alias(self, value: Value, of: Value) -> None:
        """Let `value` live in the tensor of `of`: the same bytes under the same stored shape."""
        self._index[id(value)] = self.stored(of)

    def plain(self, value: Value) -> int:
        """Index of the value in PyTorch's axis order; NHWC values are transposed once."""
        if not self.layouts.is_nhwc(value):
            return self.stored(value)
        if id(value) not in self._plain:
            index = self.file.tensor(f"{value.name}/nchw", value.shape, _dtype(value), value.quant)
            self._move(self.stored(value), index, (0, 3, 1, 2), value)
            self._plain[id(value)] = index
        return self._plain[id(value)]

    def into(self, value: Value, write: Callable[[int], None]) -> None:
        """Let `write` fill a tensor in PyTorch's order, then bring it into the value's storage order."""
        if not self.layouts.is_nhwc(value):
            write(self.result(value))
            return
        index = self.file.tensor(f"{value.name}/nchw", value.shape, _dtype(value), value.quant)
        write(index)
        self._move(index, self.result(value), NHWC, value)

    def constant(self, value: Value, array: np.ndarray | None = None, quant: QuantParams | None = None) -> int:
        """Index of a constant, given in the order in which it is to be stored."""
        assert value.const is not None
        array = value.const.numpy() if array is None else array
        if self.float16_weights and array.dtype == np.float32 and array.size > 1:
            return self._half(value.name, array)
        return self.file.constant(value.name, array, quant or value.quant)

    def numbers(self, *items: Any) -> int:
        """An int32 constant: axes, sizes, paddings."""
        array = np.asarray(items[0] if len(items) == 1 else items, np.int32)
        return self.file.constant(f"int32{array.tolist()}".replace(" ", ""), array)

    def broadcast(self, value: Value, like: Value) -> int:
        """An elementwise operand: constants are brought to the storage order of `like`."""
        if value.const is None:
            return self.plain(value) if len(value.shape) != len(like.shape) else self.stored(value)
        array = value.const.numpy()
        if array.ndim and array.size > 1:
            array = array.reshape((1,) * (len(like.shape) - array.ndim) + array.shape)
            array = array.transpose(NHWC) if self.layouts.is_nhwc(like) else array
        else:
            array = array.reshape(())
        return self.constant(value, array)

    # --- operators ----------------------------------------------------------------------------------------------------
    def op(
        self, name: str, inputs: Sequence[int], output: int, node: Node, options: Any = None, at_least: int = 1
    ) -> None:
        """Append one operator in the lowest version that fits."""
        quant = node.inputs[0].quant or node.output.quant
        int8 = quant is not None and name != "QUANTIZE"
        at_least = max(at_least, version_of_rank(name, [tuple(self.file.subgraph.tensors[i].shape) for i in inputs]))
        self.file.op(name, inputs, output, version_of(name, int8=int8, at_least=at_least), options)

    def _move(self, source: int, target: int, perm: tuple[int, ...], value: Value) -> None:
        int8 = value.quant is not None
        if same_bytes(value.shape):
            options = schema.ReshapeOptionsT()
            options.newShape = np.asarray(self.file.subgraph.tensors[target].shape, np.int32)
            self.file.op("RESHAPE", [source, self.numbers(options.newShape)], target, 1, options)
        else:
            version = version_of("TRANSPOSE", int8=int8)
            self.file.op("TRANSPOSE", [source, self.numbers(perm)], target, version, schema.TransposeOptionsT())

    def _new(self, value: Value) -> int:
        name = self._output_names.get(id(value), value.name)
        return self.file.tensor(name, self.layouts.shape(value), _dtype(value), value.quant)

    def _half(self, name: str, array: np.ndarray) -> int:
        half = self.file.constant(f"{name}/float16", array.astype(np.float16))
        if half not in self._float16:
            self._float16[half] = index = self.file.tensor(name, array.shape, "float32")
            self.file.op("DEQUANTIZE", [half], index, 3, schema.DequantizeOptionsT())
        return self._float16[half]


def _dtype(value: Value) -> str:
    return value.quant.dtype if value.quant else str(value.dtype).removeprefix("torch.")


def with_activation(options: Any, node: Node) -> Any:
    """Put the node's activation into the options."""
    if "activation" in node.attrs:
        options.fusedActivationFunction = ACTIVATIONS[node.attrs["activation"]]
    return options


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


# --- convolutions -----------------------------------------------------------------------------------------------------
@spelling
def conv2d(e: Emitter, node: Node) -> None:
    """Weight [O,I/g,kh,kw] is stored [O,kh,kw,I/g]; depthwise as [1,kh,kw,O]."""
    x, weight, bias = node.inputs
    assert weight.const is not None
    window = window_of(node)
    source = padded(e, node, window, None)
    outputs, per_group, _, _ = weight.shape
    depthwise = per_group == 1 and node.attrs["groups"] == x.shape[1] and x.shape[1] > 1
    options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
    _fill_window(options, window)
    options.dilationHFactor, options.dilationWFactor = node.attrs["dilation"]
    with_activation(options, node)
    if depthwise:
        options.depthMultiplier = outputs // x.shape[1]
        array = weight.const.numpy().transpose(1, 2, 3, 0)
        filters = e.constant(weight, array, _on_axis(weight.quant, 3))
        at_least = 2 if node.attrs["dilation"] != (1, 1) else 1
        e.op("DEPTHWISE_CONV_2D", [source, filters, e.constant(bias)], e.result(node.output), node, options, at_least)
    else:
        filters = e.constant(weight, weight.const.numpy().transpose(0, 2, 3, 1), weight.quant)
        at_least = 6 if node.attrs["groups"] > 1 else 1
        e.op("CONV_2D", [source, filters, e.constant(bias)], e.result(node.output), node, options, at_least)


@spelling
def linear(e: Emitter, node: Node) -> None:
    """FULLY_CONNECTED stores its weight like torch."""
    x, weight, bias = node.inputs
    options = with_activation(schema.FullyConnectedOptionsT(), node)
    options.keepNumDims = len(x.shape) != 2
    at_least = 5 if options.keepNumDims else 1
    operands = [e.plain(x), e.constant(weight), e.constant(bias)]
    e.into(node.output, lambda out: e.op("FULLY_CONNECTED", operands, out, node, options, at_least))


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
    index = e.file.tensor(f"{node.output.name}/pad", shape, _dtype(x), x.quant)
    widths = e.numbers([[0, 0], [top, bottom], [left, right], [0, 0]])
    if value is None:
        e.op("PAD", [e.stored(x), widths], index, node, schema.PadOptionsT())
    else:
        fill = e.file.constant(f"{_dtype(x)} lowest", np.asarray([value]), x.quant)
        e.op("PADV2", [e.stored(x), widths, fill], index, node, schema.PadV2OptionsT())
    return index


# --- windows and resampling -------------------------------------------------------------------------------------------
@spelling
def max_pool2d(e: Emitter, node: Node) -> None:
    _pool(e, node, "MAX_POOL_2D", LOWEST[_dtype(node.inputs[0])])


@spelling
def avg_pool2d(e: Emitter, node: Node) -> None:
    """Padding is not counted, in TFLite as in the op's meaning; `unsupported` refuses explicit pads."""
    _pool(e, node, "AVERAGE_POOL_2D", None)


def _pool(e: Emitter, node: Node, name: str, lowest: Any) -> None:
    window = window_of(node)
    replicates = lowest is not None and max(window.explicit) <= 2
    source = replicated(e, node, window) if replicates else padded(e, node, window, lowest)
    options = schema.Pool2DOptionsT()
    _fill_window(options, window)
    options.filterHeight, options.filterWidth = node.attrs["kernel"]
    e.op(name, [source], e.result(node.output), node, options)


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
        index = e.file.tensor(f"{node.output.name}/border{axis}", shape, _dtype(x), x.quant)
        e.op("CONCATENATION", operands, index, node, options)
    return index


def _border(e: Emitter, node: Node, source: int, shape: list[int], axis: int, at: int) -> int:
    begin, size = [0] * 4, list(shape)
    begin[axis], size[axis] = at, 1
    x = node.inputs[0]
    index = e.file.tensor(f"{node.output.name}/slice{axis}.{at}", size, _dtype(x), x.quant)
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
        e.into(node.output, lambda out: e.op("MEAN", operands, out, node, _reducer(node.attrs["keepdim"])))
        return
    source, axes = e.stored(x), sorted(e.layouts.dim(x, d) for d in node.attrs["dims"])
    if node.output.quant is None and axes == [1, 2]:
        rows = e.file.tensor(f"{node.output.name}/rows", (x.shape[0], 1, x.shape[3], x.shape[1]), _dtype(x))
        e.op("MEAN", [source, e.numbers([1])], rows, node, _reducer(True))
        if node.attrs["keepdim"]:
            e.op("MEAN", [rows, e.numbers([2])], e.result(node.output), node, _reducer(True))
            return
        source, axes = rows, [1, 2]
    e.op("MEAN", [source, e.numbers(axes)], e.result(node.output), node, _reducer(node.attrs["keepdim"]))


def _reducer(keep_dims: bool) -> Any:
    options = schema.ReducerOptionsT()
    options.keepDims = keep_dims
    return options


@spelling
def resize_nearest(e: Emitter, node: Node) -> None:
    operands = [e.stored(node.inputs[0]), e.numbers(node.attrs["size"])]
    options = schema.ResizeNearestNeighborOptionsT()
    e.op("RESIZE_NEAREST_NEIGHBOR", operands, e.result(node.output), node, options)


@spelling
def resize_bilinear(e: Emitter, node: Node) -> None:
    options = schema.ResizeBilinearOptionsT()
    options.alignCorners = node.attrs["align_corners"]
    options.halfPixelCenters = not node.attrs["align_corners"]
    operands = [e.stored(node.inputs[0]), e.numbers(node.attrs["size"])]
    at_least = 3 if options.halfPixelCenters else 1
    e.op("RESIZE_BILINEAR", operands, e.result(node.output), node, options, at_least)


# --- shape ------------------------------------------------------------------------------------------------------------
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
    operands.append(e.file.constant(f"{_dtype(x)} {fill[0]}", fill, x.quant))
    e.op("PADV2", operands, e.result(node.output), node, schema.PadV2OptionsT())


@spelling
def slice_(e: Emitter, node: Node) -> None:
    x, attrs = node.inputs[0], node.attrs
    rank = len(x.shape)
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


@spelling
def concat(e: Emitter, node: Node) -> None:
    options = schema.ConcatenationOptionsT()
    options.axis = e.layouts.dim(node.output, node.attrs["dim"])
    operands = [e.broadcast(v, node.output) for v in node.inputs]
    e.op("CONCATENATION", operands, e.result(node.output), node, options)


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
def transpose(e: Emitter, node: Node) -> None:
    """One TRANSPOSE from storage order to storage order, whatever both are; none where the two orders cancel it."""
    x, y, perm = node.inputs[0], node.output, node.attrs["perm"]
    order = NHWC if e.layouts.is_nhwc(y) else tuple(range(len(perm)))
    stored_perm = [e.layouts.dim(x, perm[d]) for d in order]
    if stored_perm == sorted(stored_perm):
        e.alias(y, x)
        return
    e.op("TRANSPOSE", [e.stored(x), e.numbers(stored_perm)], e.result(y), node, schema.TransposeOptionsT())


# --- one input --------------------------------------------------------------------------------------------------------
@spelling
def silu(e: Emitter, node: Node) -> None:
    """LOGISTIC and MUL; XNNPACK runs the pair as one operator."""
    x = e.stored(node.inputs[0])
    gate = e.file.tensor(f"{node.output.name}/sigmoid", e.layouts.shape(node.output), _dtype(node.output))
    e.op("LOGISTIC", [x], gate, node)
    e.op("MUL", [x, gate], e.result(node.output), node, schema.MulOptionsT())


@spelling
def gelu(e: Emitter, node: Node) -> None:
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
    """SOFTMAX works on the last stored dim; `unsupported` refuses others."""
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    e.op("SOFTMAX", [e.stored(node.inputs[0])], e.result(node.output), node, options)
