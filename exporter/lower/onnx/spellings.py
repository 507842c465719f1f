"""The ops in ONNX's words (opset 20). Axis order is the graph's own."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from exporter.ir.graph import Node
from exporter.lower.onnx.emit import Emitter, Spelling, spelling

ROWS = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "sigmoid": "Sigmoid", "tanh": "Tanh", "elu": "Elu",
    "mish": "Mish", "exp": "Exp", "maximum": "Max", "hard_swish": "HardSwish",
}  # fmt: skip
"""Ops whose operands are the operator's inputs, without attributes."""


def _row(kind: str) -> Spelling:
    def write(e: Emitter, node: Node) -> None:
        e.op(kind, node, [e.read(v) for v in node.inputs])

    return write


for _name, _kind in ROWS.items():
    spelling(_row(_kind), _name)


# --- linear algebra ---------------------------------------------------------------------------------------------------
@spelling
def conv2d(e: Emitter, node: Node) -> None:
    attrs = node.attrs
    top, bottom, left, right = attrs["padding"]
    e.op(
        "Conv", node, [e.read(v) for v in node.inputs], kernel_shape=node.inputs[1].shape[2:], strides=attrs["stride"],
        pads=(top, left, bottom, right), dilations=attrs["dilation"], group=attrs["groups"],
    )  # fmt: skip


@spelling
def conv_transpose2d(e: Emitter, node: Node) -> None:
    """ONNX stores the weight as [I,O,kh,kw] and adds rows where the padding is negative."""
    x, weight, bias = node.inputs
    top, bottom, left, right = node.attrs["padding"]
    assert weight.const is not None
    filters = e.read(weight, axis=1 if weight.quant else None, array=weight.const.numpy().transpose(1, 0, 2, 3))
    e.op(
        "ConvTranspose", node, [e.read(x), filters, e.read(bias)], kernel_shape=weight.shape[2:],
        strides=node.attrs["stride"], pads=[max(p, 0) for p in (top, left, bottom, right)],
        output_padding=[max(-bottom, 0), max(-right, 0)],
    )  # fmt: skip


@spelling
def linear(e: Emitter, node: Node) -> None:
    """Gemm takes matrices only; other ranks are a MatMul and a bias."""
    x, weight, bias = node.inputs
    if len(x.shape) == 2:
        e.op("Gemm", node, [e.read(v) for v in node.inputs], transB=1)
        return
    assert weight.const is not None
    transposed = e.read(weight, axis=1 if weight.quant else None, array=weight.const.numpy().T)
    e.op("Add", node, [e.between("MatMul", node, [e.read(x), transposed]), e.read(bias)])


@spelling
def matmul(e: Emitter, node: Node) -> None:
    a, b = node.inputs
    right, rank = e.read(b), len(b.shape)
    if node.attrs["transpose_b"]:
        right = e.between("Transpose", node, [right], perm=(*range(rank - 2), rank - 1, rank - 2))
    e.op("MatMul", node, [e.read(a), right])


@spelling
def layer_norm(e: Emitter, node: Node) -> None:
    """LayerNormalization is over the last dims; other dims are moved there and back."""
    x, weight, bias = node.inputs
    dims, eps, rank = node.attrs["dims"], node.attrs["eps"], len(x.shape)
    perm = (*(d for d in range(rank) if d not in dims), *dims)
    parts, options = [e.read(weight), e.read(bias)], {"axis": rank - len(dims), "epsilon": eps}
    if perm == tuple(range(rank)):
        e.op("LayerNormalization", node, [e.read(x), *parts], **options)
        return
    moved = e.between("Transpose", node, [e.read(x)], perm=perm)
    normed = e.between("LayerNormalization", node, [moved, *parts], **options)
    e.op("Transpose", node, [normed], perm=tuple(perm.index(d) for d in range(rank)))


# --- one input, element by element ------------------------------------------------------------------------------------
@spelling
def rsqrt(e: Emitter, node: Node) -> None:
    e.op("Reciprocal", node, [e.between("Sqrt", node, [e.read(node.inputs[0])])])


@spelling
def silu(e: Emitter, node: Node) -> None:
    x = e.read(node.inputs[0])
    e.op("Mul", node, [x, e.between("Sigmoid", node, [x])])


@spelling
def gelu(e: Emitter, node: Node) -> None:
    e.op("Gelu", node, [e.read(node.inputs[0])], approximate=node.attrs["approximate"])


@spelling
def softmax(e: Emitter, node: Node) -> None:
    e.op("Softmax", node, [e.read(node.inputs[0])], axis=node.attrs["dim"])


# --- windows and resampling -------------------------------------------------------------------------------------------
@spelling
def max_pool2d(e: Emitter, node: Node) -> None:
    _pool(e, node, "MaxPool")


@spelling
def avg_pool2d(e: Emitter, node: Node) -> None:
    _pool(e, node, "AveragePool")


def _pool(e: Emitter, node: Node, kind: str) -> None:
    """Padding never counts: ONNX's default for both."""
    top, bottom, left, right = node.attrs["padding"]
    e.op(
        kind, node, [e.read(node.inputs[0])], kernel_shape=node.attrs["kernel"], strides=node.attrs["stride"],
        pads=(top, left, bottom, right),
    )  # fmt: skip


@spelling
def mean(e: Emitter, node: Node) -> None:
    """In float an image's mean is one of columns, then of rows: runtimes add in sequence, and 256 x 256 numbers in one
    go leave 82 dB.
    """
    x, dims, keep = e.read(node.inputs[0]), node.attrs["dims"], int(node.attrs["keepdim"])
    for dim in reversed(dims[1:]) if node.output.quant is None else ():
        x, dims = e.between("ReduceMean", node, [x, e.integers(dim)], keepdims=keep), dims[:-1]
    e.op("ReduceMean", node, [x, e.integers(*dims)], keepdims=keep)


@spelling
def amax(e: Emitter, node: Node) -> None:
    axes = e.integers(*node.attrs["dims"])
    e.op("ReduceMax", node, [e.read(node.inputs[0]), axes], keepdims=int(node.attrs["keepdim"]))


@spelling
def depth_to_space(e: Emitter, node: Node) -> None:
    e.op("DepthToSpace", node, [e.read(node.inputs[0])], blocksize=node.attrs["block"], mode="DCR")


@spelling
def space_to_depth(e: Emitter, node: Node) -> None:
    e.op("SpaceToDepth", node, [e.read(node.inputs[0])], blocksize=node.attrs["block"])


@spelling
def resize_nearest(e: Emitter, node: Node) -> None:
    """At ratios that are not whole, onnxruntime's float index is not torch's: there the pixels are gathered by name."""
    x, size = node.inputs[0], node.attrs["size"]
    if all(target % source == 0 for source, target in zip(x.shape[2:], size, strict=True)):
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        e.op("Resize", node, [e.read(x), "", "", e.integers(*node.output.shape)], **how)
        return
    rows, columns = (e.integers(*_pixels(*pair)) for pair in zip(x.shape[2:], size, strict=True))
    e.op("Gather", node, [e.between("Gather", node, [e.read(x), rows], axis=2), columns], axis=3)


def _pixels(source: int, target: int) -> list[int]:
    """The index in `source` pixels that torch picks for each of `target` ones."""
    row = torch.arange(source, dtype=torch.float32).reshape(1, 1, source)
    return [int(i) for i in F.interpolate(row, target, mode="nearest").flatten()]


# --- shape ------------------------------------------------------------------------------------------------------------
@spelling
def pad(e: Emitter, node: Node) -> None:
    attrs = node.attrs
    e.op("Pad", node, [e.read(node.inputs[0]), e.integers(*attrs["before"], *attrs["after"]), e.number(attrs["value"])])


@spelling
def slice_(e: Emitter, node: Node) -> None:
    """Slices of rising dims in float, each read by the next alone, are one operator."""
    if _joins_next(e, node):
        return
    chain = [node]
    while (before := chain[0].inputs[0].producer) is not None and _joins_next(e, before):
        chain.insert(0, before)
    ranges = [e.integers(*(n.attrs[key] for n in chain)) for key in ("start", "end", "dim", "step")]
    e.op("Slice", node, [e.read(chain[0].inputs[0]), *ranges])


def _joins_next(e: Emitter, node: Node) -> bool:
    result = node.outputs[0]
    if node.op.name != "slice" or result.quant is not None or len(result.uses) != 1 or e.is_output(result):
        return False
    (reader,) = result.uses
    return reader.op.name == "slice" and reader.attrs["dim"] > node.attrs["dim"]


@spelling
def reshape(e: Emitter, node: Node) -> None:
    e.op("Reshape", node, [e.read(node.inputs[0]), e.integers(*node.attrs["shape"])])


@spelling
def transpose(e: Emitter, node: Node) -> None:
    e.op("Transpose", node, [e.read(node.inputs[0])], perm=node.attrs["perm"])


@spelling
def concat(e: Emitter, node: Node) -> None:
    e.op("Concat", node, [e.read(v) for v in node.inputs], axis=node.attrs["dim"])


@spelling
def gather_channels(e: Emitter, node: Node) -> None:
    e.op("Gather", node, [e.read(node.inputs[0]), e.integers(*node.attrs["channels"])], axis=1)


# --- borders between float and integer parts --------------------------------------------------------------------------
@spelling
def dequantize(e: Emitter, node: Node) -> None:
    x = node.inputs[0]
    assert x.quant is not None
    e.dequantized(e.name(x), x.quant, name=e.name(node.output))


@spelling
def float_tail(e: Emitter, node: Node) -> None:
    """A border that writes nothing."""
    e.alias(node.output, e.read(node.inputs[0]))
