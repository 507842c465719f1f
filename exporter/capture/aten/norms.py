"""Normalisation by statistics of the input itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from exporter.capture.aten.arithmetic import add, mul, sub
from exporter.capture.aten.shape import view
from exporter.capture.aten.table import Builder, Unsupported, aten, refuse_other_dtype, require_constants
from exporter.capture.aten.windows import mean, sum_
from exporter.ir.graph import Value


@aten("layer_norm")
def layer_norm(
    b: Builder, x: Value, shape: Sequence[int], weight: Value | None = None, bias: Value | None = None,
    eps: float = 1e-5, cudnn: bool = False,
) -> Value:  # fmt: skip
    require_constants(weight, bias)
    rank = len(x.shape)
    return _normalised(b, x, tuple(range(rank - len(shape), rank)), eps, weight, bias)


@aten("native_layer_norm")
def native_layer_norm(
    b: Builder, x: Value, shape: Sequence[int], weight: Value | None, bias: Value | None, eps: float
) -> list[Value | None]:
    return [layer_norm(b, x, shape, weight, bias, eps), None, None]


@aten("group_norm")
def group_norm(
    b: Builder, x: Value, groups: int, weight: Value | None = None, bias: Value | None = None,
    eps: float = 1e-5, cudnn: bool = False,
) -> Value:  # fmt: skip
    """x [N, C, ...]. One group needs no reshape; weight and bias are one number per channel."""
    require_constants(weight, bias)
    if groups == 1:
        return _per_channel(b, _normalised(b, x, tuple(range(1, len(x.shape))), eps), weight, bias)
    split = view(b, x, (x.shape[0], groups, -1))
    return _per_channel(b, view(b, _normalised(b, split, (2,), eps), x.shape), weight, bias)


@aten("instance_norm")
def instance_norm(
    b: Builder, x: Value, weight: Value | None, bias: Value | None, mean: Value | None, var: Value | None,
    use_input_stats: bool, momentum: float, eps: float, cudnn: bool = False,
) -> Value:  # fmt: skip
    if not use_input_stats:
        raise Unsupported("instance_norm with running statistics")
    require_constants(weight, bias)
    return _per_channel(b, _normalised(b, x, tuple(range(2, len(x.shape))), eps), weight, bias)


@aten("rms_norm")
def rms_norm(
    b: Builder, x: Value, shape: Sequence[int], weight: Value | None = None, eps: float | None = None
) -> Value:
    """x / sqrt(mean(x²) + eps) * weight."""
    dims = list(range(len(x.shape) - len(shape), len(x.shape)))
    power = mean(b, mul(b, x, x), dims, True)
    eps = torch.finfo(torch.float32).eps if eps is None else eps
    result = mul(b, x, b.emit("rsqrt", add(b, power, eps)))
    return mul(b, result, weight) if weight is not None else result


@aten("var")
def var(
    b: Builder, x: Value, dim: Any = None, unbiased: bool = True, keepdim: bool = False, correction: float | None = None
) -> Value:
    """mean((x - mean)²), corrected."""
    if isinstance(dim, bool):  # var(x, unbiased)
        dim, unbiased = None, dim
    centred = sub(b, x, mean(b, x, dim, True))
    biased = mean(b, mul(b, centred, centred), dim, keepdim)
    count = x.numel // biased.numel
    degrees = count - (float(unbiased) if correction is None else correction)
    return biased if degrees == count else mul(b, biased, count / degrees)


@aten("std")
def std(b: Builder, x: Value, *args: Any, **kwargs: Any) -> Value:
    return b.emit("sqrt", var(b, x, *args, **kwargs))


@aten("var_mean")
def var_mean(b: Builder, x: Value, dim: Any = None, *args: Any, **kwargs: Any) -> list[Value]:
    keepdim = kwargs.get("keepdim", args[1] if len(args) > 1 else False)
    return [var(b, x, dim, *args, **kwargs), mean(b, x, dim, keepdim)]


@aten("linalg_vector_norm")
def vector_norm(
    b: Builder, x: Value, order: float = 2, dim: Any = None, keepdim: bool = False, dtype: Any = None
) -> Value:
    refuse_other_dtype(x, dtype)
    if order != 2:
        raise Unsupported(f"a norm of order {order}: only 2")
    power = mean(b, mul(b, x, x), dim, keepdim)
    return b.emit("sqrt", mul(b, power, float(x.numel // power.numel)))


@aten("cosine_similarity")
def cosine_similarity(b: Builder, x: Value, y: Value, dim: int = 1, eps: float = 1e-8) -> Value:
    """The sum of products of both vectors at length 1."""

    def unit(v: Value) -> Value:
        return mul(b, v, b.emit("rsqrt", add(b, sum_(b, mul(b, v, v), dim, True), eps * eps)))

    return sum_(b, mul(b, unit(x), unit(y)), dim)


def _normalised(
    b: Builder, x: Value, dims: tuple[int, ...], eps: float, weight: Value | None = None, bias: Value | None = None
) -> Value:
    shape = tuple(x.shape[d] for d in dims)
    weight = weight or b.constant(torch.ones(shape))
    return b.emit("layer_norm", x, weight, bias or b.constant(torch.zeros(shape)), dims=dims, eps=eps)


def _per_channel(b: Builder, x: Value, weight: Value | None, bias: Value | None) -> Value:
    shape = (-1, *[1] * (len(x.shape) - 2))
    for value, step in ((weight, mul), (bias, add)):
        if value is not None and value.const is not None:
            x = step(b, x, b.constant(value.const.reshape(shape)))
    return x
