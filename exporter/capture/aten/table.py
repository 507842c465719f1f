"""What every row of the table uses: the registry, the builder that emits ops, and the word for what cannot be done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

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
        (output,) = self.emit_all(op, *inputs, **attrs)
        return output

    def emit_all(self, op: str, *inputs: Value, **attrs: Any) -> list[Value]:
        """Append one op of several outputs."""
        if foreign := [str(value.dtype) for value in inputs if value.dtype is not torch.float32]:
            raise Unsupported(f"an operand is {foreign[0]}: only torch.float32")
        return self.graph.emit_all(op, inputs, source=self.source, **attrs)

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


def refuse_other_dtype(x: Value, dtype: Any) -> None:
    """`dtype=` asks for the computation in another precision; the bool of a decomposed spelling asks for nothing."""
    if isinstance(dtype, torch.dtype) and dtype is not x.dtype:
        raise Unsupported(f"dtype={dtype}: only that of the input, {x.dtype}")


def require_batch(x: Value) -> None:
    """Layers on images also take [C, H, W]; our ops take [N, C, H, W] only."""
    if len(x.shape) != 4:
        raise Unsupported(f"an input of rank {len(x.shape)}: only [N, C, H, W]")


def require_constants(weight: Value | None, bias: Value | None) -> None:
    for role, value in (("weight", weight), ("bias", bias)):
        if value is not None and value.const is None:
            raise Unsupported(f"the {role} is computed from the input")


def pair(x: int | Sequence[int]) -> tuple[int, int]:
    if isinstance(x, int):
        return x, x
    return (x[0], x[0]) if len(x) == 1 else (x[0], x[1])


def dim_of(dim: int, x: Value) -> int:
    return dim % max(len(x.shape), 1)
