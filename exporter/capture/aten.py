"""The table from ATen ops to ours. One function is one ATen op (in-place forms share it); its parameters are the
schema's. An op that existing ops can express needs nothing but a function here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from exporter.ir.graph import Graph, Source, Value

Handler = Callable[..., Any]
ATEN: dict[str, Handler] = {}

NOISE = frozenset(
    [
        "_assert_tensor_metadata",
        "_assert_scalar",
        "alias",
        "clone",
        "contiguous",
        "detach",
        "dropout",
        "feature_dropout",
        "lift_fresh_copy",
        "sym_constrain_range_for_size",
    ]
)
"""Ops that mean nothing in an eval-mode inference graph: dropped by name, the first operand passes through."""


class Unsupported(Exception):
    """This call cannot be expressed; the text says why."""


def aten(*names: str) -> Callable[[Handler], Handler]:
    """Register the decorated function for these ATen names (default: its own, trailing underscore dropped)."""

    def register(handler: Handler) -> Handler:
        for name in names or (handler.__name__.rstrip("_"),):
            if name in ATEN:
                raise ValueError(f"aten.{name} is registered twice")
            ATEN[name] = handler
        return handler

    return register


class Builder:
    """Emits ops with the source of the ATen call being translated."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.source = Source()
        self._absent: dict[tuple[int, float], Value] = {}

    def emit(self, op: str, *inputs: Value, **attrs: Any) -> Value:
        """Append one op."""
        if foreign := [str(value.dtype) for value in inputs if value.dtype is not torch.float32]:
            raise Unsupported(f"an operand is {foreign[0]}: only torch.float32")
        return self.graph.emit(op, inputs, source=self.source, **attrs)

    def constant(self, value: float | torch.Tensor) -> Value:
        """A constant; numbers become float32 scalars."""
        tensor = value if isinstance(value, torch.Tensor) else torch.tensor(float(value))
        return self.graph.constant(f"{self.source.module or self.graph.name}/const", tensor)

    def absent(self, number: float, beside: Value) -> Value:
        """What stands for a missing bias or scale, one per channel: one constant for each parameter `beside` it, so
        that two calls of a layer stay equal.
        """
        key = (id(beside), number)
        if key not in self._absent:
            self._absent[key] = self.constant(torch.full((beside.shape[0],), number))
        return self._absent[key]

    def operand(self, value: Value | float) -> Value:
        """A value as it is, a number as a constant, a constant that torch promotes to float32 as float32."""
        if not isinstance(value, Value):
            return self.constant(value)
        promotes = value.dtype is not torch.float32 and not (value.shape and value.dtype.is_floating_point)
        return self.constant(value.const.float()) if value.const is not None and promotes else value


def _pair(x: int | Sequence[int]) -> tuple[int, int]:
    if isinstance(x, int):
        return x, x
    return (x[0], x[0]) if len(x) == 1 else (x[0], x[1])


def _dim(dim: int, x: Value) -> int:
    return dim % max(len(x.shape), 1)


# --- linear algebra ---------------------------------------------------------------------------------------------------
@aten("conv2d")
def conv2d(
    b: Builder, x: Value, weight: Value, bias: Value | None = None,
    stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Value:  # fmt: skip
    """Padding `same` is torch's: the larger half at the end."""
    if weight.const is None:
        raise Unsupported("the weight is computed from the input")
    k, d = weight.shape[2:], _pair(dilation)
    if isinstance(padding, str):
        total = [d[i] * (k[i] - 1) if padding == "same" else 0 for i in (0, 1)]
        pads = (total[0] // 2, total[0] - total[0] // 2, total[1] // 2, total[1] - total[1] // 2)
    else:
        ph, pw = _pair(padding)
        pads = (ph, ph, pw, pw)
    bias = bias or b.absent(0.0, weight)
    return b.emit(
        "conv2d", x, weight, bias, stride=_pair(stride), padding=pads, dilation=d, groups=groups, activation="none"
    )  # fmt: skip


@aten("convolution")
def convolution(
    b: Builder, x: Value, weight: Value, bias: Value | None, stride: Any, padding: Any, dilation: Any,
    transposed: bool, output_padding: Any, groups: int,
) -> Value:  # fmt: skip
    """The decomposed spelling."""
    if transposed or len(weight.shape) != 4:
        raise Unsupported("only 2-D convolutions that are not transposed")
    return conv2d(b, x, weight, bias, stride, padding, dilation, groups)


@aten("linear")
def linear(b: Builder, x: Value, weight: Value, bias: Value | None = None) -> Value:
    if weight.const is None:
        raise Unsupported("the weight is computed from the input")
    return b.emit("linear", x, weight, bias or b.absent(0.0, weight), activation="none")


@aten("addmm")
def addmm(b: Builder, bias: Value, x: Value, weight: Value, beta: float = 1, alpha: float = 1) -> Value:
    if weight.const is None or beta != 1 or alpha != 1:
        raise Unsupported("only bias + x @ constant")
    return linear(b, x, b.constant(weight.const.t().contiguous()), bias)


@aten("batch_norm")
def batch_norm(
    b: Builder, x: Value, weight: Value | None, bias: Value | None, mean: Value, var: Value,
    training: bool, momentum: float, eps: float, cudnn: bool = False,
) -> Value:  # fmt: skip
    if training or mean is None:
        raise Unsupported("BatchNorm without running statistics")
    weight = weight or b.absent(1.0, mean)
    bias = bias or b.absent(0.0, mean)
    return b.emit("batch_norm", x, weight, bias, mean, var, eps=eps)


@aten("_native_batch_norm_legit_no_training")
def native_batch_norm(
    b: Builder, x: Value, weight: Value, bias: Value, mean: Value, var: Value, momentum: float, eps: float
) -> list[Value]:
    return [batch_norm(b, x, weight, bias, mean, var, False, momentum, eps)]


# --- arithmetic -------------------------------------------------------------------------------------------------------
@aten("add")
def add(b: Builder, a: Value | float, other: Value | float, alpha: float = 1) -> Value:
    return b.emit("add", b.operand(a), _scaled(b, other, alpha), activation="none")


@aten("sub")
def sub(b: Builder, a: Value | float, other: Value | float, alpha: float = 1) -> Value:
    return b.emit("sub", b.operand(a), _scaled(b, other, alpha), activation="none")


@aten("rsub")
def rsub(b: Builder, a: Value | float, other: Value | float, alpha: float = 1) -> Value:
    return b.emit("sub", b.operand(other), _scaled(b, a, alpha), activation="none")


@aten("mul")
def mul(b: Builder, a: Value | float, other: Value | float) -> Value:
    return b.emit("mul", b.operand(a), b.operand(other), activation="none")


@aten("div")
def div(b: Builder, a: Value | float, other: Value | float, rounding_mode: str | None = None) -> Value:
    if rounding_mode is not None:
        raise Unsupported(f"rounding_mode={rounding_mode!r}")
    divisor = b.operand(other)
    if divisor.const is not None:
        return mul(b, a, b.constant((1.0 / divisor.const.double()).float()))
    return b.emit("div", b.operand(a), divisor, activation="none")


@aten("reciprocal")
def reciprocal(b: Builder, x: Value) -> Value:
    return div(b, 1.0, x)


@aten("neg")
def neg(b: Builder, x: Value) -> Value:
    return mul(b, x, -1.0)


def _scaled(b: Builder, x: Value | float, alpha: float) -> Value:
    value = b.operand(x)
    return value if alpha == 1 else mul(b, value, alpha)


# --- activations ------------------------------------------------------------------------------------------------------
def _plain(name: str) -> None:
    @aten(name)
    def handler(b: Builder, x: Value) -> Value:
        return b.emit(name, x)


for _name in ("relu", "relu6", "sigmoid", "silu", "tanh"):
    _plain(_name)


@aten("hardswish")
def hardswish(b: Builder, x: Value) -> Value:
    return b.emit("hard_swish", x)


@aten("gelu")
def gelu(b: Builder, x: Value, approximate: str = "none") -> Value:
    return b.emit("gelu", x, approximate=approximate)


@aten("leaky_relu")
def leaky_relu(b: Builder, x: Value, negative_slope: float = 0.01) -> Value:
    return b.emit("leaky_relu", x, negative_slope=float(negative_slope))


@aten("hardtanh")
def hardtanh(b: Builder, x: Value, min_val: float = -1.0, max_val: float = 1.0) -> Value:
    return clamp(b, x, min_val, max_val)


@aten("clamp")
def clamp(b: Builder, x: Value, min: float | None = None, max: float | None = None) -> Value:
    """ReLU and ReLU6 written as clamps."""
    if (min, max) == (0, 6):
        return b.emit("relu6", x)
    if (min, max) == (0, None):
        return b.emit("relu", x)
    raise Unsupported(f"clamp to [{min}, {max}]: only [0, 6] and [0, inf)")


@aten("clamp_min")
def clamp_min(b: Builder, x: Value, low: float) -> Value:
    return clamp(b, x, low)


@aten("softmax", "_softmax")
def softmax(b: Builder, x: Value, dim: int, *_: Any) -> Value:
    return b.emit("softmax", x, dim=_dim(dim, x))


# --- windows, reductions, resampling ----------------------------------------------------------------------------------
@aten("max_pool2d")
def max_pool2d(
    b: Builder, x: Value, kernel_size: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil: bool = False
) -> Value:
    ph, pw = _pair(padding)
    if ceil or _pair(dilation) != (1, 1):
        raise Unsupported("ceil_mode or dilation")
    kernel = _pair(kernel_size)
    return b.emit("max_pool2d", x, kernel=kernel, stride=_pair(stride or kernel), padding=(ph, ph, pw, pw))


@aten("max_pool2d_with_indices")
def max_pool2d_with_indices(b: Builder, x: Value, *args: Any, **kwargs: Any) -> list[Value | None]:
    """Only the pooled tensor is kept; a reader of the indices fails at its own line."""
    return [max_pool2d(b, x, *args, **kwargs), None]


@aten("avg_pool2d")
def avg_pool2d(
    b: Builder, x: Value, kernel_size: Any, stride: Any = (), padding: Any = 0, ceil: bool = False,
    count_include_pad: bool = True, divisor: int | None = None,
) -> Value:  # fmt: skip
    ph, pw = _pair(padding)
    if ceil or divisor is not None:
        raise Unsupported("ceil_mode or divisor_override")
    if count_include_pad and (ph or pw):
        x = b.emit("pad", x, before=(0, 0, ph, pw), after=(0, 0, ph, pw), value=0.0)
        ph = pw = 0
    kernel = _pair(kernel_size)
    return b.emit("avg_pool2d", x, kernel=kernel, stride=_pair(stride or kernel), padding=(ph, ph, pw, pw))


@aten("adaptive_avg_pool2d", "_adaptive_avg_pool2d")
def adaptive_avg_pool2d(b: Builder, x: Value, output_size: Any) -> Value:
    """To 1x1 it is a mean; whole ratios are an ordinary average pool (DESIGN.md §3, trap 6)."""
    out = tuple(o if o is not None else n for o, n in zip(_pair(output_size), x.shape[-2:], strict=True))
    if out == (1, 1):
        return b.emit("mean", x, dims=(2, 3), keepdim=True)
    ratio = (x.shape[-2] // out[0], x.shape[-1] // out[1])
    if (out[0] * ratio[0], out[1] * ratio[1]) != tuple(x.shape[-2:]):
        raise Unsupported(f"{list(x.shape[-2:])} to {list(out)} is not a whole ratio")
    return b.emit("avg_pool2d", x, kernel=ratio, stride=ratio, padding=(0, 0, 0, 0))


@aten("mean")
def mean(b: Builder, x: Value, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Value:
    dims = tuple(range(len(x.shape))) if not dim and dim != 0 else (dim,) if isinstance(dim, int) else tuple(dim)
    return b.emit("mean", x, dims=tuple(sorted(_dim(d, x) for d in dims)), keepdim=keepdim)


@aten("sum")
def sum_(b: Builder, x: Value, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Value:
    """count * mean: the one reduction that every format has in int8."""
    result = mean(b, x, dim, keepdim)
    return mul(b, result, float(x.numel // result.numel))


@aten("upsample_nearest2d")
def upsample_nearest2d(b: Builder, x: Value, size: Any = None, scales: Any = None, *_: Any) -> Value:
    target = _target_size(x, size, scales)
    if scales is not None and not all(map(_samples_by_size, x.shape[2:], scales, target)):
        raise Unsupported("a scale factor that samples other pixels than the ratio of the sizes: give the size instead")
    return b.emit("resize_nearest", x, size=target)


def _samples_by_size(size: int, scale: float, target: int) -> bool:
    """Whether PyTorch, which samples by the factor where one is given, picks the same pixels as by the sizes."""
    row = torch.arange(size, dtype=torch.float32).reshape(1, 1, size)
    return torch.equal(F.interpolate(row, scale_factor=scale), F.interpolate(row, target))


@aten("upsample_bilinear2d")
def upsample_bilinear2d(b: Builder, x: Value, size: Any, align_corners: bool, scales: Any = None, *_: Any) -> Value:
    target = _target_size(x, size, scales)
    if (
        not align_corners
        and scales is not None
        and any(n * s != t for n, s, t in zip(x.shape[2:], scales, target, strict=True))
    ):
        raise Unsupported("a scale factor that does not divide the size")
    return b.emit("resize_bilinear", x, size=target, align_corners=align_corners)


def _target_size(x: Value, size: Any, scales: Any) -> tuple[int, int]:
    if size is not None:
        return _pair(size)
    return int(x.shape[2] * scales[0]), int(x.shape[3] * scales[1])


# --- shape ------------------------------------------------------------------------------------------------------------
def _reshape(b: Builder, x: Value, shape: Sequence[int]) -> Value:
    return b.emit("reshape", x, shape=tuple(torch.empty(x.shape, device="meta").reshape(tuple(shape)).shape))


@aten("view", "reshape", "_unsafe_view")
def view(b: Builder, x: Value, shape: Sequence[int]) -> Value:
    return _reshape(b, x, shape)


@aten("flatten")
def flatten(b: Builder, x: Value, start: int = 0, end: int = -1) -> Value:
    return _reshape(b, x, torch.empty(x.shape, device="meta").flatten(start, end).shape)


@aten("unsqueeze")
def unsqueeze(b: Builder, x: Value, dim: int) -> Value:
    return _reshape(b, x, torch.empty(x.shape, device="meta").unsqueeze(dim).shape)


@aten("squeeze")
def squeeze(b: Builder, x: Value, dim: Any = None) -> Value:
    empty = torch.empty(x.shape, device="meta")
    dims = tuple(dim) if isinstance(dim, (list, tuple)) else dim
    return _reshape(b, x, (empty.squeeze() if dims is None else empty.squeeze(dims)).shape)


@aten("permute")
def permute(b: Builder, x: Value, dims: Sequence[int]) -> Value:
    return b.emit("transpose", x, perm=tuple(_dim(d, x) for d in dims))


@aten("transpose")
def transpose(b: Builder, x: Value, dim0: int, dim1: int) -> Value:
    perm = list(range(len(x.shape)))
    perm[dim0], perm[dim1] = perm[dim1], perm[dim0]
    return b.emit("transpose", x, perm=tuple(perm))


@aten("t")
def t(b: Builder, x: Value) -> Value:
    return transpose(b, x, 0, 1) if len(x.shape) == 2 else x


@aten("cat")
def cat(b: Builder, xs: Sequence[Value], dim: int = 0) -> Value:
    kept = [x for x in xs if x.numel]
    return b.emit("concat", *kept, dim=_dim(dim, kept[0]))


@aten("stack")
def stack(b: Builder, xs: Sequence[Value], dim: int = 0) -> Value:
    at = dim % (len(xs[0].shape) + 1)
    return cat(b, [unsqueeze(b, x, at) for x in xs], at)


@aten("slice")
def slice_(
    b: Builder, x: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Value:
    dim = _dim(dim, x)
    first, last, _ = slice(start, end).indices(x.shape[dim])
    return b.emit("slice", x, dim=dim, start=first, end=last, step=step)


@aten("narrow")
def narrow(b: Builder, x: Value, dim: int, start: int, length: int) -> Value:
    return slice_(b, x, dim, start, start + length)


@aten("select")
def select(b: Builder, x: Value, dim: int, index: int) -> Value:
    dim = _dim(dim, x)
    index %= x.shape[dim]
    return squeeze(b, slice_(b, x, dim, index, index + 1), dim)


@aten("split_with_sizes")
def split_with_sizes(b: Builder, x: Value, sizes: Sequence[int], dim: int = 0) -> list[Value]:
    """Slices; the unused ones are pruned."""
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [slice_(b, x, dim, end - size, end) for size, end in zip(sizes, ends, strict=True)]


@aten("split")
def split(b: Builder, x: Value, size: int | Sequence[int], dim: int = 0) -> list[Value]:
    if not isinstance(size, int):
        return split_with_sizes(b, x, size, dim)
    total = x.shape[_dim(dim, x)]
    return split_with_sizes(b, x, [min(size, total - at) for at in range(0, total, size)], dim)


@aten("chunk")
def chunk(b: Builder, x: Value, chunks: int, dim: int = 0) -> list[Value]:
    return split(b, x, -(-x.shape[_dim(dim, x)] // chunks), dim)


@aten("pad", "constant_pad_nd")
def pad(b: Builder, x: Value, widths: Sequence[int], mode: Any = "constant", value: float | None = None) -> Value:
    """`constant_pad_nd` has its value where `pad` has the mode."""
    if not isinstance(mode, str):
        mode, value = "constant", mode
    if mode != "constant" or min(widths) < 0:
        raise Unsupported(f"mode {mode!r} or negative widths: only constant padding")
    rank = len(x.shape)
    before, after = [0] * rank, [0] * rank
    for i in range(len(widths) // 2):
        before[rank - 1 - i], after[rank - 1 - i] = widths[2 * i], widths[2 * i + 1]
    return b.emit("pad", x, before=tuple(before), after=tuple(after), value=float(value or 0.0))


@aten("slice_scatter")
def slice_scatter(
    b: Builder, x: Value, src: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Value:
    """A slice replaced: concat of what lies before, the new part, and what lies behind."""
    dim = _dim(dim, x)
    first, last, _ = slice(start, end).indices(x.shape[dim])
    if step != 1:
        raise Unsupported("a step in slice_scatter")
    parts = [slice_(b, x, dim, 0, first)] if first else []
    parts += [src, *([slice_(b, x, dim, last, x.shape[dim])] if last < x.shape[dim] else [])]
    return cat(b, parts, dim)


@aten("select_scatter")
def select_scatter(b: Builder, x: Value, src: Value, dim: int, index: int) -> Value:
    dim = _dim(dim, x)
    index %= x.shape[dim]
    return slice_scatter(b, x, unsqueeze(b, src, dim), dim, index, index + 1)


@aten("fill")
def fill(b: Builder, x: Value, value: Value | float) -> Value:
    number = b.operand(value)
    if number.const is None:
        raise Unsupported("a value computed from the input")
    return b.constant(number.const.expand(x.shape).contiguous())


@aten("zero")
def zero(b: Builder, x: Value) -> Value:
    return fill(b, x, 0.0)


@aten("expand")
def expand(b: Builder, x: Value, size: Sequence[int], implicit: bool = False) -> Value:
    """To the shape that it has: two-operand ops broadcast by themselves."""
    if tuple(n if s == -1 else s for n, s in zip(x.shape, size, strict=False)) != x.shape or len(size) != len(x.shape):
        raise Unsupported("expand that copies: only to the shape that the tensor has")
    return x


@aten("type_as")
def type_as(b: Builder, x: Value, other: Value) -> Value:
    return to(b, x, other.dtype)


@aten("copy")
def copy(b: Builder, x: Value, src: Value, non_blocking: bool = False) -> Value:
    if src.shape != x.shape:
        raise Unsupported("copy_ that broadcasts")
    return src


@aten("to", "_to_copy")
def to(b: Builder, x: Value, *args: Any, **kwargs: Any) -> Value:
    """A conversion to the dtype that the value has is noise; any other is not supported."""
    wanted = [a for a in (*args, *kwargs.values()) if isinstance(a, torch.dtype)]
    if wanted and wanted[0] is not x.dtype:
        raise Unsupported(f"conversion to {wanted[0]}")
    return x
