"""The ops in MIL's words. Axis order is the graph's own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from exporter.ir.graph import Node
from exporter.lower.coreml.emit import Emitter, Parameter, Spelling, spelling

UNARY = {"relu": "relu", "relu6": "relu6", "sigmoid": "sigmoid", "tanh": "tanh", "silu": "silu", "exp": "exp",
         "sqrt": "sqrt", "float_tail": "identity"}  # fmt: skip
BINARY = {"add": "add", "sub": "sub", "mul": "mul", "div": "real_div", "maximum": "maximum"}


def _unary(kind: str) -> Spelling:
    def write(e: Emitter, node: Node) -> None:
        e.op(kind, node, x=e.read(node.inputs[0]))

    return write


def _binary(kind: str) -> Spelling:
    def write(e: Emitter, node: Node) -> None:
        a, b = node.inputs
        e.op(kind, node, x=e.read(a), y=e.read(b))

    return write


for _name, _kind in UNARY.items():
    spelling(_unary(_kind), _name)
for _name, _kind in BINARY.items():
    spelling(_binary(_kind), _name)


# --- linear algebra ---------------------------------------------------------------------------------------------------
@spelling
def conv2d(e: Emitter, node: Node) -> None:
    x, weight, bias = node.inputs
    attrs = node.attrs
    e.op("conv", node, x=e.read(x), weight=e.weight(weight), bias=e.read(bias), strides=attrs["stride"],
         **_padding(attrs["padding"]), dilations=attrs["dilation"], groups=attrs["groups"])  # fmt: skip


@spelling
def conv_transpose2d(e: Emitter, node: Node) -> None:
    """MIL stores the weight as [I,O,kh,kw] and cuts as much on both sides: what is more is cut by a slice. Rows beyond
    the taps are zeros and the bias.
    """
    x, weight, bias = node.inputs
    stride, (top, bottom, left, right) = node.attrs["stride"], node.attrs["padding"]
    filters = e.weight(weight, (1, 0, 2, 3))
    cut = [max(0, min(top, bottom)), max(0, min(left, right))]
    rest = [top - cut[0], bottom - cut[0], left - cut[1], right - cut[1]]
    batch, _, *size = x.shape
    full = [(n - 1) * s + k - 2 * c for n, s, k, c in zip(size, stride, weight.shape[2:], cut, strict=True)]
    options = {"strides": stride, **_padding((cut[0], cut[0], cut[1], cut[1])), "dilations": (1, 1), "groups": 1}
    if not any(rest):
        e.op("conv_transpose", node, x=e.read(x), weight=filters, bias=e.read(bias), **options)
        return
    shape = [batch, weight.shape[0], *full]
    grown = any(r < 0 for r in rest)
    biased = {} if grown else {"bias": e.read(bias)}
    y = e.between("conv_transpose", node, shape, x=e.read(x), weight=filters, **biased, **options)
    if grown:
        more = [max(0, -r) for r in rest]
        shape = [*shape[:2], full[0] + more[0] + more[1], full[1] + more[2] + more[3]]
        y = e.between("pad", node, shape, x=y, pad=(0, 0, 0, 0, *more), mode="constant", constant_val=0.0)
        y = e.between("add", node, shape, x=y, y=e.channels(bias, 4))
    starts = (max(0, rest[0]), max(0, rest[2]))
    e.op("slice_by_index", node, x=y, begin=(0, 0, *starts),
         end=(*shape[:2], *(s + n for s, n in zip(starts, node.output.shape[2:], strict=True))))  # fmt: skip


@spelling
def linear(e: Emitter, node: Node) -> None:
    """`linear` takes rank 3 at most; beyond, it is a matmul and a bias."""
    x, weight, bias = node.inputs
    if len(x.shape) <= 3:
        e.op("linear", node, x=e.read(x), weight=e.weight(weight), bias=e.read(bias))
        return
    product = e.between("matmul", node, node.output.shape, x=e.read(x), y=e.weight(weight), transpose_x=False,
                        transpose_y=True)  # fmt: skip
    e.op("add", node, x=product, y=e.read(bias))


@spelling
def matmul(e: Emitter, node: Node) -> None:
    a, b = node.inputs
    e.op("matmul", node, x=e.read(a), y=e.read(b), transpose_x=False, transpose_y=node.attrs["transpose_b"])


@spelling
def layer_norm(e: Emitter, node: Node) -> None:
    x, weight, bias = node.inputs
    e.op("layer_norm", node, x=e.read(x), axes=node.attrs["dims"], gamma=e.read(weight), beta=e.read(bias),
         epsilon=node.attrs["eps"])  # fmt: skip


# --- one input, element by element ------------------------------------------------------------------------------------
@spelling
def clamp(e: Emitter, node: Node) -> None:
    """`clip` wants two finite bounds."""
    x, low, high = e.read(node.inputs[0]), node.attrs["low"], node.attrs["high"]
    if math.isfinite(low) and math.isfinite(high) and low < high:
        e.op("clip", node, x=x, alpha=low, beta=high)
    elif math.isfinite(low) and math.isfinite(high):
        e.op("minimum", node, x=e.between("maximum", node, x.shape, x=x, y=low), y=high)
    elif math.isfinite(low):
        e.op("maximum", node, x=x, y=low)
    else:
        e.op("minimum", node, x=x, y=high)


@spelling
def leaky_relu(e: Emitter, node: Node) -> None:
    e.op("leaky_relu", node, x=e.read(node.inputs[0]), alpha=node.attrs["negative_slope"])


@spelling
def elu(e: Emitter, node: Node) -> None:
    e.op("elu", node, x=e.read(node.inputs[0]), alpha=1.0)


@spelling
def rsqrt(e: Emitter, node: Node) -> None:
    """Nothing is added under the root; MIL's default is 1e-12."""
    e.op("rsqrt", node, x=e.read(node.inputs[0]), epsilon=0.0)


@spelling
def gelu(e: Emitter, node: Node) -> None:
    mode = {"none": "EXACT", "tanh": "TANH_APPROXIMATION"}[node.attrs["approximate"]]
    e.op("gelu", node, x=e.read(node.inputs[0]), mode=mode)


@spelling
def mish(e: Emitter, node: Node) -> None:
    x = e.read(node.inputs[0])
    e.op("mul", node, x=x, y=e.between("tanh", node, x.shape, x=e.between("softplus", node, x.shape, x=x)))


@spelling
def hard_swish(e: Emitter, node: Node) -> None:
    x = e.read(node.inputs[0])
    gate = e.between("relu6", node, x.shape, x=e.between("add", node, x.shape, x=x, y=3.0))
    e.op("mul", node, x=e.between("mul", node, x.shape, x=x, y=gate), y=1 / 6)


@spelling
def softmax(e: Emitter, node: Node) -> None:
    e.op("softmax", node, x=e.read(node.inputs[0]), axis=node.attrs["dim"])


# --- windows and resampling -------------------------------------------------------------------------------------------
@spelling
def max_pool2d(e: Emitter, node: Node) -> None:
    _pool(e, node, "max_pool")


@spelling
def avg_pool2d(e: Emitter, node: Node) -> None:
    _pool(e, node, "avg_pool", exclude_padding_from_average=True)


def _pool(e: Emitter, node: Node, kind: str, **options: bool) -> None:
    attrs = node.attrs
    e.op(kind, node, x=e.read(node.inputs[0]), kernel_sizes=attrs["kernel"], strides=attrs["stride"],
         **_padding(attrs["padding"]), **options, ceil_mode=False)  # fmt: skip


@spelling
def mean(e: Emitter, node: Node) -> None:
    _reduce(e, node, "reduce_mean")


@spelling
def amax(e: Emitter, node: Node) -> None:
    _reduce(e, node, "reduce_max")


def _reduce(e: Emitter, node: Node, kind: str) -> None:
    e.op(kind, node, x=e.read(node.inputs[0]), axes=node.attrs["dims"], keep_dims=node.attrs["keepdim"])


@spelling
def depth_to_space(e: Emitter, node: Node) -> None:
    """TensorFlow's order of channels, as ours."""
    e.op("depth_to_space", node, x=e.read(node.inputs[0]), block_size=node.attrs["block"])


@spelling
def space_to_depth(e: Emitter, node: Node) -> None:
    e.op("space_to_depth", node, x=e.read(node.inputs[0]), block_size=node.attrs["block"])


@spelling
def resize_nearest(e: Emitter, node: Node) -> None:
    """At ratios that are not whole, the pixels that torch picks are gathered by name: no sampling mode of MIL is the
    float32 index of torch.
    """
    (source, size), x = (node.inputs[0].shape[2:], node.attrs["size"]), node.inputs[0]
    factors = [target // n for n, target in zip(source, size, strict=True)]
    if all(n * f == target for n, f, target in zip(source, factors, size, strict=True)):
        e.op("upsample_nearest_neighbor", node, x=e.read(x), scale_factor_height=factors[0],
             scale_factor_width=factors[1])  # fmt: skip
        return
    rows = e.elements(x)
    if source[0] != size[0]:
        shape = (*rows.shape[:2], size[0], rows.shape[3])
        rows = e.between("gather", node, shape, x=rows, **indices(e, _pixels(source[0], size[0]), 2))
    e.op("gather", node, x=rows, **indices(e, _pixels(source[1], size[1]), 3))


def _pixels(source: int, target: int) -> tuple[int, ...]:
    """The index in `source` pixels that torch picks for each of `target` ones."""
    row = torch.arange(source, dtype=torch.float32).reshape(1, 1, source)
    return tuple(int(i) for i in F.interpolate(row, target, mode="nearest").flatten())


@spelling
def resize_bilinear(e: Emitter, node: Node) -> None:
    """Whole factors are `upsample_bilinear`, as coremltools writes torch's; others have a sampling mode. With aligned
    corners a size of 1 is the first pixel.
    """
    x, size, corners = e.read(node.inputs[0]), node.attrs["size"], node.attrs["align_corners"]
    if corners and 1 in size:
        first = tuple(1 if target == 1 else n for n, target in zip(x.shape[2:], size, strict=True))
        shape = (*x.shape[:2], *first)
        x = e.between("slice_by_index", node, shape, x=x, begin=(0, 0, 0, 0), end=shape)
    factors = [target // n for n, target in zip(x.shape[2:], size, strict=True)]
    if all(n * f == target for n, f, target in zip(x.shape[2:], factors, size, strict=True)):
        e.op("upsample_bilinear", node, x=x, scale_factor_height=factors[0], scale_factor_width=factors[1],
             align_corners=corners)  # fmt: skip
    else:
        e.op("resize_bilinear", node, x=x, target_size_height=size[0], target_size_width=size[1],
             sampling_mode="STRICT_ALIGN_CORNERS" if corners else "UNALIGN_CORNERS")  # fmt: skip


# --- shape ------------------------------------------------------------------------------------------------------------
@spelling
def pad(e: Emitter, node: Node) -> None:
    attrs = node.attrs
    widths = tuple(n for pair in zip(attrs["before"], attrs["after"], strict=True) for n in pair)
    e.op("pad", node, x=e.read(node.inputs[0]), pad=widths, mode="constant", constant_val=attrs["value"])


@spelling
def slice_(e: Emitter, node: Node) -> None:
    x, a = node.inputs[0], node.attrs
    begin, end, stride = [0] * len(x.shape), list(x.shape), [1] * len(x.shape)
    begin[a["dim"]], end[a["dim"]], stride[a["dim"]] = a["start"], a["end"], a["step"]
    e.op("slice_by_index", node, x=e.elements(x), begin=tuple(begin), end=tuple(end), stride=tuple(stride))


@spelling
def reshape(e: Emitter, node: Node) -> None:
    e.op("reshape", node, x=e.elements(node.inputs[0]), shape=node.attrs["shape"])


@spelling
def transpose(e: Emitter, node: Node) -> None:
    e.op("transpose", node, x=e.elements(node.inputs[0]), perm=node.attrs["perm"])


@spelling
def concat(e: Emitter, node: Node) -> None:
    e.op("concat", node, values=[e.read(v) for v in node.inputs], axis=node.attrs["dim"], interleave=False)


@spelling
def gather_channels(e: Emitter, node: Node) -> None:
    """A shuffle is reshape, transpose, reshape, as coremltools writes ShuffleNet's own lines."""
    x, channels = node.inputs[0], node.attrs["channels"]
    if (groups := _shuffled(channels, x.shape[1])) == 1:
        e.op("gather", node, x=e.elements(x), **indices(e, channels, 1))
        return
    batch, count, *image = x.shape
    shape = (batch, groups, count // groups, *image)
    parted = e.between("reshape", node, shape, x=e.elements(x), shape=shape)
    shape = (batch, count // groups, groups, *image)
    swapped = e.between("transpose", node, shape, x=parted, perm=(0, 2, 1, 3, 4))
    e.op("reshape", node, x=swapped, shape=x.shape)


def _shuffled(channels: tuple[int, ...], count: int) -> int:
    """The groups that a channel shuffle takes in turn; 1 where it is no shuffle."""
    wanted = np.array(channels)
    for groups in (g for g in range(2, count) if count % g == 0 and len(wanted) == count):
        if np.array_equal(np.arange(count).reshape(groups, -1).T.ravel(), wanted):
            return groups
    return 1


def indices(e: Emitter, indices: tuple[int, ...], axis: int) -> dict[str, Parameter]:
    """What `gather` takes beside x; later systems ask for more."""
    options: dict[str, Parameter] = {"indices": indices, "axis": axis}
    if e.min_os >= 16:
        options["batch_dims"] = 0
    if e.min_os >= 17:
        options["validate_indices"] = False
    return options


def _padding(pads: Sequence[int]) -> dict[str, Parameter]:
    return {"pad_type": "custom" if any(pads) else "valid", "pad": tuple(pads)}


# --- borders between float and integer parts --------------------------------------------------------------------------
@spelling
def quantize(e: Emitter, node: Node) -> None:
    """Of codes with other parameters too: back to float, and to the new codes."""
    e.quantized(e.read(node.inputs[0]), node.output)


@spelling
def dequantize(e: Emitter, node: Node) -> None:
    x = node.inputs[0]
    assert x.quant is not None
    e.keep(node.output, e.dequantized(e.held(x), x.quant, e.name(node.output)))
