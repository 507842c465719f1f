"""The op vocabulary. One function is one row: its body is the op's meaning in torch, its keyword-only parameters are
the node's attributes, and the decorator declares how it is quantised and how it treats the storage order.

Axis order is PyTorch's (NCHW). Pads are (top, bottom, left, right).

Quantisation rules (DESIGN.md §3): `Scale.FREE` the output has its own range; `Scale.SAME` the output shares the
parameters of its data inputs; `Scale.FIXED` the parameters are given by the TFLite specification; `Scale.FLOAT` never
quantised. Layout rules: `Layout.BOUND` input 0 and the output are stored NHWC; `Layout.TRANSPARENT` any order, all data
operands alike (axes are remapped); `Layout.BREAKING` operands and result keep PyTorch's order.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from exporter.ir.detection import Detections, detect
from exporter.ir.quant import QuantParams

Pair = tuple[int, int]
Pads = tuple[int, int, int, int]
Ints = tuple[int, ...]


Meaning = Callable[..., Tensor | tuple[Tensor, ...]]
"""An op in torch; a tuple where it has several outputs."""
M = TypeVar("M", bound=Meaning)


class Scale(Enum):
    """Where an output's quantisation parameters come from."""

    FREE = "free"
    SAME = "same"
    FIXED = "fixed"
    FLOAT = "float"


class Layout(Enum):
    """How an op treats the storage order of its operands."""

    BOUND = "bound"
    TRANSPARENT = "transparent"
    BREAKING = "breaking"


@dataclass(frozen=True, eq=False)
class Op:
    """One row of the vocabulary."""

    name: str
    run: Meaning
    attrs: dict[str, str]
    scale: Scale
    layout: Layout
    fixed: QuantParams | None = None
    data_inputs: int | None = None
    """How many leading inputs carry data; later ones are weights and bias. None: all of them."""

    def __repr__(self) -> str:
        return f"Op({self.name})"


OPS: dict[str, Op] = {}


def op(
    scale: Scale, layout: Layout, *, fixed: QuantParams | None = None, data_inputs: int | None = None
) -> Callable[[M], M]:
    """Register the decorated function as the op of its name (a trailing underscore is dropped)."""

    def register(run: M) -> M:
        name = run.__name__.rstrip("_")
        if name in OPS:
            raise ValueError(f"op {name} is registered twice")
        parameters = inspect.signature(run).parameters.values()
        attrs = {p.name: str(p.annotation) for p in parameters if p.kind is p.KEYWORD_ONLY}
        OPS[name] = Op(name, run, attrs, scale, layout, fixed, data_inputs)
        return run

    return register


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"none": lambda x: x, "relu": F.relu, "relu6": F.relu6}
"""Activations that conv2d, linear and the arithmetic ops may carry; all formats clamp them into the int8 range."""


def symmetric(padding: Pads) -> bool:
    """Whether torch's own conv and pool arguments can express these pads."""
    return padding[0] == padding[1] and padding[2] == padding[3]


def _padded(x: Tensor, padding: Ints, value: float = 0.0) -> Tensor:
    top, bottom, left, right = padding
    return F.pad(x, (left, right, top, bottom), value=value)


# --- linear algebra ---------------------------------------------------------------------------------------------------
@op(Scale.FREE, Layout.BOUND, data_inputs=1)
def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    stride: Pair,
    padding: Pads,
    dilation: Pair,
    groups: int,
    activation: str,
) -> Tensor:
    """x [N,C,H,W], weight [O,C/groups,kh,kw], bias [O]; zero padding."""
    if symmetric(padding):
        y = F.conv2d(x, weight, bias, stride, (padding[0], padding[2]), dilation, groups)
    else:
        y = F.conv2d(_padded(x, padding), weight, bias, stride, 0, dilation, groups)
    return ACTIVATIONS[activation](y)


@op(Scale.FREE, Layout.BOUND, data_inputs=1)
def conv_transpose2d(
    x: Tensor, weight: Tensor, bias: Tensor, *, stride: Pair, padding: Pads, activation: str
) -> Tensor:
    """x [N,I,H,W], weight [O,I,kh,kw], bias [O]. `padding` is cut from the full result of (H - 1) * stride + kh rows;
    where it is negative, rows of zeros (and the bias) are added.
    """
    y = _padded(F.conv_transpose2d(x, weight.transpose(0, 1), stride=stride), tuple(-p for p in padding))
    return ACTIVATIONS[activation](y + bias.reshape(-1, 1, 1))


@op(Scale.FREE, Layout.BREAKING, data_inputs=1)
def linear(x: Tensor, weight: Tensor, bias: Tensor, *, activation: str) -> Tensor:
    """x [..., I], weight [O, I], bias [O]."""
    return ACTIVATIONS[activation](F.linear(x, weight, bias))


@op(Scale.FREE, Layout.BREAKING)
def matmul(a: Tensor, b: Tensor, *, transpose_b: bool) -> Tensor:
    """a [..., M, K] @ b [..., K, N], or b [..., N, K] with `transpose_b`; leading dims broadcast. In int8 the zero
    point of b is 0.
    """
    return a @ (b.mT if transpose_b else b)


@op(Scale.FREE, Layout.TRANSPARENT, data_inputs=1)
def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, *, dims: Ints, eps: float) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias, mean and (biased) variance over `dims`, in ascending order.

    weight and bias have one element for each along `dims`: shape [x.shape[d] for d in dims].
    """
    shape = [n if d in dims else 1 for d, n in enumerate(x.shape)]
    variance, mean = torch.var_mean(x, dims, correction=0, keepdim=True)
    return (x - mean) * torch.rsqrt(variance + eps) * weight.reshape(shape) + bias.reshape(shape)


@op(Scale.FREE, Layout.TRANSPARENT, data_inputs=1)
def batch_norm(x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, *, eps: float) -> Tensor:
    """Inference BatchNorm over dim 1. Simplify folds every one; no target writes it."""
    return F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)


# --- arithmetic (two operands broadcast like torch) -------------------------------------------------------------------
@op(Scale.FREE, Layout.TRANSPARENT)
def add(a: Tensor, b: Tensor, *, activation: str) -> Tensor:
    """a + b."""
    return ACTIVATIONS[activation](a + b)


@op(Scale.FREE, Layout.TRANSPARENT)
def sub(a: Tensor, b: Tensor, *, activation: str) -> Tensor:
    """a - b."""
    return ACTIVATIONS[activation](a - b)


@op(Scale.FREE, Layout.TRANSPARENT)
def mul(a: Tensor, b: Tensor, *, activation: str) -> Tensor:
    """a * b."""
    return ACTIVATIONS[activation](a * b)


@op(Scale.FREE, Layout.TRANSPARENT)
def div(a: Tensor, b: Tensor, *, activation: str) -> Tensor:
    """a / b."""
    return ACTIVATIONS[activation](a / b)


@op(Scale.SAME, Layout.TRANSPARENT)
def maximum(a: Tensor, b: Tensor) -> Tensor:
    """The larger of a and b."""
    return torch.maximum(a, b)


# --- one input, element by element ------------------------------------------------------------------------------------
@op(Scale.FREE, Layout.TRANSPARENT)
def sqrt(x: Tensor) -> Tensor:
    """Square root."""
    return torch.sqrt(x)


@op(Scale.FREE, Layout.TRANSPARENT)
def rsqrt(x: Tensor) -> Tensor:
    """1 / sqrt(x)."""
    return torch.rsqrt(x)


@op(Scale.FREE, Layout.TRANSPARENT)
def relu(x: Tensor) -> Tensor:
    """max(x, 0)."""
    return F.relu(x)


@op(Scale.FREE, Layout.TRANSPARENT)
def relu6(x: Tensor) -> Tensor:
    """min(max(x, 0), 6)."""
    return F.relu6(x)


@op(Scale.FREE, Layout.TRANSPARENT)
def clamp(x: Tensor, *, low: float, high: float) -> Tensor:
    """min(max(x, low), high); low <= 0 <= high, either may be infinite."""
    return x.clamp(low, high)


@op(Scale.FREE, Layout.TRANSPARENT)
def leaky_relu(x: Tensor, *, negative_slope: float) -> Tensor:
    """x where positive, else negative_slope * x."""
    return F.leaky_relu(x, negative_slope)


@op(Scale.FIXED, Layout.TRANSPARENT, fixed=QuantParams((1 / 256,), -128))
def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return torch.sigmoid(x)


@op(Scale.FIXED, Layout.TRANSPARENT, fixed=QuantParams((1 / 128,), 0))
def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent."""
    return torch.tanh(x)


@op(Scale.FREE, Layout.TRANSPARENT)
def silu(x: Tensor) -> Tensor:
    """x * sigmoid(x). Quantize expands it."""
    return F.silu(x)


@op(Scale.FREE, Layout.TRANSPARENT)
def exp(x: Tensor) -> Tensor:
    """e^x."""
    return x.exp()


@op(Scale.FREE, Layout.TRANSPARENT)
def gelu(x: Tensor, *, approximate: str) -> Tensor:
    """GELU; `approximate` is none (erf) or tanh."""
    return F.gelu(x, approximate=approximate)


@op(Scale.FREE, Layout.TRANSPARENT)
def mish(x: Tensor) -> Tensor:
    """x * tanh(log(1 + exp(x))). Quantize expands it."""
    return F.mish(x)


@op(Scale.FREE, Layout.TRANSPARENT)
def elu(x: Tensor) -> Tensor:
    """x where positive, else exp(x) - 1."""
    return F.elu(x)


@op(Scale.FREE, Layout.TRANSPARENT)
def hard_swish(x: Tensor) -> Tensor:
    """x * relu6(x + 3) / 6. Quantize expands it."""
    return F.hardswish(x)


@op(Scale.FIXED, Layout.TRANSPARENT, fixed=QuantParams((1 / 256,), -128))
def softmax(x: Tensor, *, dim: int) -> Tensor:
    """exp(x) / sum(exp(x)) along `dim`."""
    return F.softmax(x, dim)


# --- windows and resampling -------------------------------------------------------------------------------------------
@op(Scale.SAME, Layout.BOUND)
def max_pool2d(x: Tensor, *, kernel: Pair, stride: Pair, padding: Pads) -> Tensor:
    """Padding never wins: it stands for -inf."""
    if symmetric(padding) and 2 * padding[0] <= kernel[0] and 2 * padding[2] <= kernel[1]:
        return F.max_pool2d(x, kernel, stride, (padding[0], padding[2]))
    return F.max_pool2d(_padded(x, padding, float("-inf")), kernel, stride)


@op(Scale.FREE, Layout.BOUND)
def avg_pool2d(x: Tensor, *, kernel: Pair, stride: Pair, padding: Pads) -> Tensor:
    """Mean of the elements inside the image: padding is not counted. Quantize expands it."""
    y = F.avg_pool2d(_padded(x, padding), kernel, stride)
    return y * uncounted(x[:1, :1], kernel, stride, padding) if any(padding) else y


def uncounted(x: Tensor, kernel: Pair, stride: Pair, padding: Pads) -> Tensor:
    """What turns a mean that counts the padding of `x` into one that does not: area / elements inside the image."""
    inside = F.avg_pool2d(_padded(torch.ones_like(x), padding), kernel, stride, divisor_override=1)
    return kernel[0] * kernel[1] / inside


@op(Scale.FREE, Layout.TRANSPARENT)
def mean(x: Tensor, *, dims: Ints, keepdim: bool) -> Tensor:
    """Mean over `dims`."""
    return x.mean(dims, keepdim)


@op(Scale.SAME, Layout.BOUND)
def resize_nearest(x: Tensor, *, size: Pair) -> Tensor:
    """Source index floor(i * in / out), torch's `nearest`."""
    return F.interpolate(x, size, mode="nearest")


@op(Scale.SAME, Layout.BOUND)
def resize_bilinear(x: Tensor, *, size: Pair, align_corners: bool) -> Tensor:
    """Bilinear; without `align_corners` pixel centres are at half integers."""
    return F.interpolate(x, size, mode="bilinear", align_corners=align_corners)


@op(Scale.SAME, Layout.BOUND)
def depth_to_space(x: Tensor, *, block: int) -> Tensor:
    """[N, b*b*C, H, W] -> [N, C, b*H, b*W]: pixel (h*b + i, w*b + j) comes from channels (i*b + j)*C and on.

    TFLite's and ONNX's (DCR) order; torch's pixel_shuffle has the channels as C*b*b.
    """
    n, channels, h, w = x.shape
    parts = x.reshape(n, block, block, channels // block**2, h, w)
    return parts.permute(0, 3, 4, 1, 5, 2).reshape(n, channels // block**2, h * block, w * block)


@op(Scale.SAME, Layout.BOUND)
def space_to_depth(x: Tensor, *, block: int) -> Tensor:
    """The inverse of `depth_to_space`."""
    n, channels, h, w = x.shape
    parts = x.reshape(n, channels, h // block, block, w // block, block)
    return parts.permute(0, 3, 5, 1, 2, 4).reshape(n, channels * block**2, h // block, w // block)


@op(Scale.SAME, Layout.TRANSPARENT)
def amax(x: Tensor, *, dims: Ints, keepdim: bool) -> Tensor:
    """The largest element over `dims`."""
    return x.amax(dims, keepdim)


# --- shape ------------------------------------------------------------------------------------------------------------
@op(Scale.SAME, Layout.TRANSPARENT)
def pad(x: Tensor, *, before: Ints, after: Ints, value: float) -> Tensor:
    """Constant padding: `before[d]` and `after[d]` elements on every dim d."""
    widths = [n for d in reversed(range(x.dim())) for n in (before[d], after[d])]
    return F.pad(x, widths, value=value)


@op(Scale.SAME, Layout.TRANSPARENT)
def slice_(x: Tensor, *, dim: int, start: int, end: int, step: int) -> Tensor:
    """x[start:end:step] along `dim`; 0 <= start < end <= size."""
    return x[(slice(None),) * dim + (slice(start, end, step),)]


@op(Scale.SAME, Layout.BREAKING)
def reshape(x: Tensor, *, shape: Ints) -> Tensor:
    """Row-major reshape in PyTorch's axis order."""
    return x.reshape(shape)


@op(Scale.SAME, Layout.BREAKING)
def transpose(x: Tensor, *, perm: Ints) -> Tensor:
    """Output dim d is input dim perm[d]."""
    return x.permute(perm)


@op(Scale.SAME, Layout.TRANSPARENT)
def concat(*xs: Tensor, dim: int) -> Tensor:
    """Concatenation along `dim`."""
    return torch.cat(xs, dim)


@op(Scale.SAME, Layout.BOUND)
def gather_channels(x: Tensor, *, channels: Ints) -> Tensor:
    """Output channel i is input channel channels[i], x [N,C,H,W]. A channel shuffle is one of these."""
    return x[:, list(channels)]


# --- borders between float and integer parts --------------------------------------------------------------------------
@op(Scale.FREE, Layout.TRANSPARENT)
def quantize(x: Tensor) -> Tensor:
    """float -> the codes of the output's parameters. In float meaning: the identity."""
    return x.clone()


@op(Scale.FLOAT, Layout.TRANSPARENT)
def dequantize(x: Tensor) -> Tensor:
    """Codes -> float. In float meaning: the identity."""
    return x.clone()


@op(Scale.FLOAT, Layout.TRANSPARENT)
def float_tail(x: Tensor) -> Tensor:
    """The border of a model's float tail: the identity. Nothing behind it is quantised, whatever the precision."""
    return x.clone()


# --- detection --------------------------------------------------------------------------------------------------------
@op(Scale.FLOAT, Layout.BREAKING)
def detection_postprocess(
    codes: Tensor,
    scores: Tensor,
    anchors: Tensor,
    *,
    score_threshold: float,
    iou_threshold: float,
    max_detections: int,
    per_class: bool,
) -> Detections:
    """Box codes, scores and anchors -> boxes, class ids, scores, number: see `exporter.ir.detection.detect`."""
    return detect(codes, scores, anchors, score_threshold, iou_threshold, max_detections, per_class)
