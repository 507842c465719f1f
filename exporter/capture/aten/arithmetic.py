"""Linear algebra, arithmetic and activations."""

from __future__ import annotations

import math
from typing import Any

from exporter.capture.aten.shape import chunk
from exporter.capture.aten.table import Builder, Unsupported, aten, dim_of, refuse_other_dtype, require_constants
from exporter.ir.graph import Value


# --- linear algebra ---------------------------------------------------------------------------------------------------
@aten("linear")
def linear(b: Builder, x: Value, weight: Value, bias: Value | None = None) -> Value:
    require_constants(weight, bias)
    return b.emit("linear", x, weight, bias or b.absent(0.0, weight), activation="none")


@aten("addmm")
def addmm(b: Builder, bias: Value, x: Value, weight: Value, beta: float = 1, alpha: float = 1) -> Value:
    if weight.const is None or beta != 1 or alpha != 1:
        raise Unsupported("only bias + x @ constant")
    if len(bias.shape) != 1 or bias.shape[0] != weight.shape[1]:
        raise Unsupported(f"a bias of shape {list(bias.shape)}: only one number per column")
    return linear(b, x, b.constant(weight.const.t().contiguous()), bias)


@aten("batch_norm")
def batch_norm(
    b: Builder, x: Value, weight: Value | None, bias: Value | None, mean: Value, var: Value,
    training: bool, momentum: float, eps: float, cudnn: bool = False,
) -> Value:  # fmt: skip
    if training or mean is None:
        raise Unsupported("BatchNorm without running statistics")
    if any(v is not None and v.const is None for v in (weight, bias, mean, var)):
        raise Unsupported("a parameter is computed from the input")
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


@aten("minimum")
def minimum(b: Builder, a: Value, other: Value) -> Value:
    """a - max(a - other, 0): the second step is part of the first."""
    a = b.operand(a)
    return sub(b, a, b.emit("relu", sub(b, a, other)))


@aten("lerp")
def lerp(b: Builder, start: Value, end: Value, weight: Value | float) -> Value:
    return add(b, start, mul(b, sub(b, end, start), weight))


@aten("addcmul")
def addcmul(b: Builder, x: Value, a: Value, other: Value, value: float = 1) -> Value:
    return add(b, x, mul(b, a, other), value)


@aten("maximum")
def maximum(b: Builder, a: Value, other: Value) -> Value:
    return b.emit("maximum", b.operand(a), b.operand(other))


@aten("neg")
def neg(b: Builder, x: Value) -> Value:
    return mul(b, x, -1.0)


@aten("square")
def square(b: Builder, x: Value) -> Value:
    return mul(b, x, x)


@aten("pow")
def pow_(b: Builder, x: Value, exponent: Value | float) -> Value:
    """Powers that are other ops: 2, 3, 1/2, -1/2, 1, -1."""
    number = exponent.const.item() if isinstance(exponent, Value) and exponent.const is not None else exponent
    if number in (0.5, -0.5):
        return b.emit("sqrt" if number > 0 else "rsqrt", x)
    if number == -1:
        return reciprocal(b, x)
    if isinstance(number, Value) or number not in (1, 2, 3):
        raise Unsupported(f"an exponent of {'another tensor' if isinstance(number, Value) else number}")
    return x if number == 1 else mul(b, square(b, x), x) if number == 3 else square(b, x)


def _scaled(b: Builder, x: Value | float, alpha: float) -> Value:
    value = b.operand(x)
    return value if alpha == 1 else mul(b, value, alpha)


# --- activations ------------------------------------------------------------------------------------------------------
def _plain(name: str) -> None:
    @aten(name)
    def handler(b: Builder, x: Value) -> Value:
        return b.emit(name, x)


for _name in ("exp", "mish", "relu", "relu6", "rsqrt", "sigmoid", "silu", "sqrt", "tanh"):
    _plain(_name)


@aten("elu")
def elu(b: Builder, x: Value, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Value:
    """With factors: the positive part and the negative one by themselves."""
    if (alpha, scale, input_scale) == (1, 1, 1):
        return b.emit("elu", x)
    falling = b.emit("elu", mul(b, clamp(b, x, None, 0.0), input_scale))
    return add(b, mul(b, b.emit("relu", x), scale), mul(b, falling, alpha * scale))


@aten("selu")
def selu(b: Builder, x: Value) -> Value:
    """Constants: torch.nn.SELU."""
    return elu(b, x, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946)


@aten("celu")
def celu(b: Builder, x: Value, alpha: float = 1) -> Value:
    return elu(b, x, alpha, 1, 1 / alpha)


@aten("prelu")
def prelu(b: Builder, x: Value, weight: Value) -> Value:
    """One slope is a leaky ReLU; one per channel is max(x, 0) + slope * min(x, 0)."""
    require_constants(weight, None)
    assert weight.const is not None
    if weight.numel == 1:
        return leaky_relu(b, x, float(weight.const))
    slopes = b.constant(weight.const.reshape(-1, *[1] * (len(x.shape) - 2)))
    return add(b, b.emit("relu", x), mul(b, clamp(b, x, None, 0.0), slopes))


@aten("glu")
def glu(b: Builder, x: Value, dim: int = -1) -> Value:
    half, gate = chunk(b, x, 2, dim)
    return mul(b, half, b.emit("sigmoid", gate))


@aten("hardswish")
def hardswish(b: Builder, x: Value) -> Value:
    return b.emit("hard_swish", x)


@aten("gelu")
def gelu(b: Builder, x: Value, approximate: str = "none") -> Value:
    return b.emit("gelu", x, approximate=approximate)


@aten("leaky_relu")
def leaky_relu(b: Builder, x: Value, negative_slope: float = 0.01) -> Value:
    return b.emit("leaky_relu", x, negative_slope=float(negative_slope)) if negative_slope else b.emit("relu", x)


@aten("abs")
def abs_(b: Builder, x: Value) -> Value:
    """A leaky ReLU of slope -1: the one spelling that XNNPACK runs in int8."""
    return leaky_relu(b, x, -1.0)


@aten("hardtanh")
def hardtanh(b: Builder, x: Value, min_val: float = -1.0, max_val: float = 1.0) -> Value:
    return clamp(b, x, min_val, max_val)


@aten("clamp", "clip")
def clamp(b: Builder, x: Value, min: float | None = None, max: float | None = None) -> Value:
    """Bounds on one side of zero: low + clamp(x - low, 0, high - low), and so with high."""
    low, high = -math.inf if min is None else float(min), math.inf if max is None else float(max)
    if low > high:
        raise Unsupported(f"clamp to [{low:g}, {high:g}], which is empty")
    if low > 0 or high < 0:
        base = low if low > 0 else high
        return add(b, clamp(b, sub(b, x, base), low - base, high - base), base)
    if (low, high) in ((0, 6), (0, math.inf)):
        return b.emit("relu6" if high == 6 else "relu", x)
    return b.emit("clamp", x, low=low, high=high)


@aten("clamp_min")
def clamp_min(b: Builder, x: Value, low: float) -> Value:
    return clamp(b, x, low)


@aten("clamp_max")
def clamp_max(b: Builder, x: Value, high: float) -> Value:
    return clamp(b, x, None, high)


@aten("hardsigmoid")
def hardsigmoid(b: Builder, x: Value) -> Value:
    """relu6(x + 3) / 6: the sum and the clamp end in the convolution before, the factor in the one behind."""
    return mul(b, b.emit("relu6", add(b, x, 3.0)), 1 / 6)


@aten("softmax", "_softmax")
def softmax(b: Builder, x: Value, dim: int, dtype: Any = None) -> Value:
    refuse_other_dtype(x, dtype)
    return b.emit("softmax", x, dim=dim_of(dim, x))
