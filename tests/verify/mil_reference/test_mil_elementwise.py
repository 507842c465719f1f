"""Ops that work number by number, against what their MIL definitions say in numpy and torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from mil_programs import PRECISIONS, check, like, mb
from torch import Tensor
from torch.nn import functional as F

X = np.linspace(-7, 7, 84, dtype=np.float32).reshape(1, 3, 4, 7)
Y = np.cos(np.arange(84, dtype=np.float32)).reshape(1, 3, 4, 7) * 4
POSITIVE = np.abs(Y) + np.float32(0.01)

UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda x: x.clamp(min=0),
    "relu6": lambda x: x.clamp(0, 6),
    "sigmoid": lambda x: 1 / (1 + (-x).exp()),
    "tanh": torch.tanh,
    "silu": lambda x: x / (1 + (-x).exp()),
    "exp": torch.exp,
    "square": lambda x: x * x,
    "abs": lambda x: torch.maximum(x, -x),
    "sign": torch.sign,
    "floor": torch.floor,
    "ceil": torch.ceil,
    "round": torch.round,
    "erf": torch.erf,
    "sin": torch.sin,
    "cos": torch.cos,
    "softplus": lambda x: x.exp().log1p(),
    "softsign": lambda x: x / (1 + x.abs()),
    "identity": lambda x: x,
}
BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "real_div": lambda x, y: x / y,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "floor_div": lambda x, y: (x / y).floor(),
    "mod": lambda x, y: x - (x / y).floor() * y,
}
WITH_PARAMETERS: dict[str, tuple[Callable[..., Any], Callable[[Tensor], Tensor]]] = {
    "gelu exact": (lambda x: mb.gelu(x=x), lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))),
    "gelu tanh": (
        lambda x: mb.gelu(x=x, mode="TANH_APPROXIMATION"),
        lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    ),
    "gelu sigmoid": (lambda x: mb.gelu(x=x, mode="SIGMOID_APPROXIMATION"), lambda x: x * torch.sigmoid(1.702 * x)),
    "elu": (lambda x: mb.elu(x=x, alpha=0.75), lambda x: torch.where(x > 0, x, 0.75 * (x.exp() - 1))),
    "leaky_relu": (lambda x: mb.leaky_relu(x=x, alpha=0.125), lambda x: torch.where(x >= 0, x, 0.125 * x)),
    "clamped_relu": (
        lambda x: mb.clamped_relu(x=x, alpha=0.125, beta=3.5),
        lambda x: torch.where(x >= 0, x, 0.125 * x).clamp(max=3.5),
    ),
    "thresholded_relu": (
        lambda x: mb.thresholded_relu(x=x, alpha=2.0),
        lambda x: torch.where(x >= 2, x, torch.zeros_like(x)),
    ),
    "linear_activation": (lambda x: mb.linear_activation(x=x, alpha=1.5, beta=-2.0), lambda x: 1.5 * x - 2),
    "scaled_tanh": (lambda x: mb.scaled_tanh(x=x, alpha=1.5, beta=0.5), lambda x: 1.5 * torch.tanh(0.5 * x)),
    "sigmoid_hard": (lambda x: mb.sigmoid_hard(x=x, alpha=0.25, beta=0.5), lambda x: (x / 4 + 0.5).clamp(0, 1)),
    "clip": (lambda x: mb.clip(x=x, alpha=like(x, -2.5), beta=like(x, 3)), lambda x: x.clamp(-2.5, 3)),
    "threshold": (lambda x: mb.threshold(x=x, alpha=like(x, -2.5)), lambda x: x.clamp(min=-2.5)),
    "softmax": (lambda x: mb.softmax(x=x, axis=1), lambda x: x.exp() / x.exp().sum(1, keepdim=True)),
    "softmax, last axis": (lambda x: mb.softmax(x=x), lambda x: x.exp() / x.exp().sum(-1, keepdim=True)),
    "cast down and up": (lambda x: mb.cast(x=mb.cast(x=x, dtype="int32"), dtype="fp32"), torch.trunc),
}
ON_POSITIVE: dict[str, tuple[Callable[..., Any], Callable[[Tensor], Tensor]]] = {
    "sqrt": (lambda x: mb.sqrt(x=x), torch.sqrt),
    "rsqrt": (lambda x: mb.rsqrt(x=x, epsilon=0.25), lambda x: 1 / (x + 0.25).sqrt()),
    "inverse": (lambda x: mb.inverse(x=x, epsilon=0.25), lambda x: 1 / (x + 0.25)),
    "log": (lambda x: mb.log(x=x, epsilon=0.25), lambda x: (x + 0.25).log()),
    "inverse, default": (lambda x: mb.inverse(x=x), lambda x: 1 / (x + 1e-4)),
    "pow": (lambda x: mb.pow(x=x, y=like(x, 1.5)), lambda x: x**1.5),
}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("op", UNARY)
def test_unary(op: str, precision: str) -> None:
    check(lambda x: getattr(mb, op)(x=x), UNARY[op], X, precision=precision, op=op)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("op", BINARY)
def test_binary(op: str, precision: str) -> None:
    """The second operand has a sign of its own, and no zero."""
    check(lambda x, y: getattr(mb, op)(x=x, y=y), BINARY[op], X, Y + 0.003, precision=precision, op=op)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_binary_operands_broadcast(precision: str) -> None:
    other = np.array([1.5, -2, 4], np.float32).reshape(3, 1, 1)
    check(lambda x: mb.mul(x=x, y=like(x, other)), lambda x: x * torch.from_numpy(other), X, precision=precision)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", WITH_PARAMETERS)
def test_with_parameters(case: str, precision: str) -> None:
    build, expected = WITH_PARAMETERS[case]
    check(build, expected, X, precision=precision)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", ON_POSITIVE)
def test_on_positive_numbers(case: str, precision: str) -> None:
    build, expected = ON_POSITIVE[case]
    check(build, expected, POSITIVE, precision=precision)


@pytest.mark.parametrize("opset", ["iOS15", "iOS16", "iOS17", "iOS18"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_prelu(opset: str, precision: str) -> None:
    alpha = np.array([0.125, 0.5, -1], np.float32)
    check(
        lambda x: mb.prelu(x=x, alpha=like(x, alpha)),
        lambda x: F.prelu(x, torch.from_numpy(alpha).double()),
        X,
        precision=precision,
        opset=opset,
    )


@pytest.mark.parametrize("op", ["equal", "not_equal", "greater", "greater_equal", "less", "less_equal"])
def test_comparisons_of_integers_and_select(op: str) -> None:
    x, y = (np.array(v, np.int32) for v in ([1, 2, 3, -4], [1, 3, 2, -4]))
    expected = np.where(getattr(np, op)(x, y), x * 10, y)

    def build(a: Any, b: Any) -> Any:
        return mb.select(cond=getattr(mb, op)(x=a, y=b), a=mb.mul(x=a, y=10), b=b)

    check(build, lambda *_: torch.from_numpy(expected), x, y)


@pytest.mark.parametrize("op", ["logical_and", "logical_or", "logical_xor"])
def test_logic(op: str) -> None:
    x, y = (np.array(v, np.int32) for v in ([0, 0, 1, 1], [0, 1, 0, 1]))

    def build(a: Any, b: Any) -> Any:
        return mb.logical_not(x=getattr(mb, op)(x=mb.cast(x=a, dtype="bool"), y=mb.cast(x=b, dtype="bool")))

    check(build, lambda *_: torch.from_numpy(~getattr(np, op)(x > 0, y > 0)).int(), x, y)
