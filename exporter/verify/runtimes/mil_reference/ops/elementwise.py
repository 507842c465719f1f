"""Ops that work number by number."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from exporter.verify.runtimes.mil_reference.ops.registry import Function, binary, mil, unary

ARITHMETIC: dict[str, Function] = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "real_div": torch.true_divide, "pow": torch.pow,
    "floor_div": torch.floor_divide, "mod": torch.remainder,
}  # fmt: skip
COMPARISON: dict[str, Function] = {
    "maximum": torch.maximum, "minimum": torch.minimum, "equal": torch.eq, "not_equal": torch.ne,
    "greater": torch.gt, "greater_equal": torch.ge, "less": torch.lt, "less_equal": torch.le,
    "logical_and": torch.logical_and, "logical_or": torch.logical_or, "logical_xor": torch.logical_xor,
}  # fmt: skip
CURVES: dict[str, Function] = {
    "sigmoid": torch.sigmoid, "tanh": torch.tanh, "silu": F.silu, "exp": torch.exp, "exp2": torch.exp2,
    "sqrt": torch.sqrt, "square": torch.square, "sin": torch.sin, "cos": torch.cos, "tan": torch.tan,
    "atan": torch.atan, "sinh": torch.sinh, "cosh": torch.cosh, "erf": torch.erf, "softsign": F.softsign,
    "softplus": lambda x: torch.logaddexp(x, torch.zeros_like(x)),
}  # fmt: skip
CHOICES: dict[str, Function] = {
    "relu": torch.relu, "relu6": F.relu6, "abs": torch.abs, "sign": torch.sign, "floor": torch.floor,
    "ceil": torch.ceil, "round": torch.round, "identity": lambda x: x, "logical_not": torch.logical_not,
}  # fmt: skip
"""Their results need no rounding to float16: they hold no number that float16 lacks."""

for _table, _enter, _exact in (
    (ARITHMETIC, binary, False), (COMPARISON, binary, True), (CURVES, unary, False), (CHOICES, unary, True),
):  # fmt: skip
    for _name, _function in _table.items():
        _enter(_name, _function, exact=_exact)


@mil()
def gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    """x times a sigmoid of one of three shapes."""
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x, approximate={"EXACT": "none", "TANH_APPROXIMATION": "tanh"}[mode])


@mil()
def elu(x: Tensor, alpha: float) -> Tensor:
    """x, or alpha · (e^x - 1) below zero."""
    return torch.where(x > 0, x, alpha * torch.expm1(x))


@mil()
def leaky_relu(x: Tensor, alpha: float) -> Tensor:
    """x, or alpha · x below zero."""
    return F.leaky_relu(x, alpha)


@mil()
def clamped_relu(x: Tensor, alpha: float, beta: float) -> Tensor:
    """leaky_relu, at most beta."""
    return F.leaky_relu(x, alpha).clamp(max=beta)


@mil()
def thresholded_relu(x: Tensor, alpha: float) -> Tensor:
    """x, or 0 below alpha."""
    return torch.where(x >= alpha, x, torch.zeros_like(x))


@mil()
def prelu(x: Tensor, alpha: Tensor) -> Tensor:
    """x, or alpha · x below zero; one alpha per channel (axis 1)."""
    return torch.where(x >= 0, x, alpha.reshape(-1, *[1] * (x.dim() - 2)) * x)


@mil()
def linear_activation(x: Tensor, alpha: float, beta: float) -> Tensor:
    """alpha · x + beta."""
    return alpha * x + beta


@mil()
def scaled_tanh(x: Tensor, alpha: float, beta: float) -> Tensor:
    """alpha · tanh(beta · x)."""
    return alpha * torch.tanh(beta * x)


@mil()
def sigmoid_hard(x: Tensor, alpha: float, beta: float) -> Tensor:
    """alpha · x + beta within 0 and 1."""
    return (alpha * x + beta).clamp(0, 1)


@mil()
def clip(x: Tensor, alpha: float, beta: float) -> Tensor:
    """x within alpha and beta."""
    return x.clamp(alpha, beta)


@mil()
def threshold(x: Tensor, alpha: float) -> Tensor:
    """x, at least alpha."""
    return x.clamp(min=alpha)


@mil()
def rsqrt(x: Tensor, epsilon: float = 1e-12) -> Tensor:
    """1 / sqrt(x + epsilon)."""
    return torch.rsqrt(x + epsilon)


@mil()
def inverse(x: Tensor, epsilon: float = 1e-4) -> Tensor:
    """1 / (x + epsilon)."""
    return torch.reciprocal(x + epsilon)


@mil()
def log(x: Tensor, epsilon: float = 1e-45) -> Tensor:
    """ln(x + epsilon)."""
    return torch.log(x + epsilon)


@mil(exact=True)
def select(cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """a where cond holds, else b."""
    return torch.where(cond, a, b)


CASTS = {
    "bool": torch.bool, "fp16": torch.float32, "fp32": torch.float32, "int8": torch.int8, "uint8": torch.uint8,
    "int16": torch.int16, "uint16": torch.int32, "int32": torch.int32, "int64": torch.int64,
}  # fmt: skip


@mil()
def cast(x: Tensor, dtype: str) -> Tensor:
    """Floats become integers towards zero, and wrap round where they are too large for them."""
    return x.to(CASTS[dtype])


@mil()
def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """e^x over its sum along `axis`."""
    return torch.softmax(x, axis)


@mil()
def layer_norm(
    x: Tensor, axes: list[int] | None = None, gamma: Tensor | None = None, beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:  # fmt: skip
    """gamma · (x - mean) / sqrt(variance + epsilon) + beta, moments over `axes` (all), which gamma and beta have."""
    over = sorted(axis % x.dim() for axis in (axes if axes is not None else range(x.dim())))
    if over == list(range(x.dim() - len(over), x.dim())):
        return F.layer_norm(x, x.shape[over[0] :], gamma, beta, epsilon)
    shape = [size if axis in over else 1 for axis, size in enumerate(x.shape)]
    variance, mean = torch.var_mean(x, over, correction=0, keepdim=True)
    result = (x - mean) / torch.sqrt(variance + epsilon)
    result = result if gamma is None else result * gamma.reshape(shape)
    return result if beta is None else result + beta.reshape(shape)


@mil()
def batch_norm(
    x: Tensor, mean: Tensor, variance: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:  # fmt: skip
    """gamma · (x - mean) / sqrt(variance + epsilon) + beta, one of each per channel (axis 1)."""
    return F.batch_norm(x, mean, variance, gamma, beta, training=False, eps=epsilon)


@mil()
def instance_norm(x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, epsilon: float = 1e-5) -> Tensor:
    """batch_norm with the moments of each picture's channels."""
    return F.instance_norm(x, weight=gamma, bias=beta, eps=epsilon)


@mil()
def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    """softmax(query · keyᵀ / sqrt(width) + mask) · value; a Boolean mask keeps where it is true (iOS 18)."""
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -math.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return torch.softmax(scores, -1) @ value
