"""The table from a MIL op to its meaning in torch.

A meaning is a function whose parameters are the op's inputs, by the names and with the defaults of the MIL definitions
(coremltools/converters/mil/mil/ops/defs). A parameter that is annotated as Tensor is given as one; all others (axes,
strides, modes) as Python numbers, lists and strings.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Result = Tensor | tuple[Tensor, ...]
Function = Callable[..., Any]


@dataclass(frozen=True)
class Meaning:
    """`exact`: every number of the result is one of an operand's, zero or one, so that nothing is left to round.

    `tensors` are the parameters given as tensors, `lists` those of them that take several.
    """

    run: Function
    tensors: frozenset[str]
    lists: frozenset[str]
    parameters: frozenset[str]
    required: frozenset[str]
    exact: bool


OPS: dict[str, Meaning] = {}


def mil(*names: str, exact: bool = False) -> Callable[[Function], Function]:
    """Enter a function as the meaning of the MIL ops of these names (its own, where none is given)."""

    def enter(function: Function) -> Function:
        declared = inspect.signature(function).parameters
        meaning = Meaning(
            run=function,
            tensors=frozenset(n for n, p in declared.items() if "Tensor" in str(p.annotation)),
            lists=frozenset(n for n, p in declared.items() if "list[Tensor" in str(p.annotation)),
            parameters=frozenset(declared),
            required=frozenset(n for n, p in declared.items() if p.default is inspect.Parameter.empty),
            exact=exact,
        )
        for name in names or (function.__name__,):
            if name in OPS:
                raise ValueError(f"MIL op {name} has two meanings")
            OPS[name] = meaning
        return function

    return enter


def unary(name: str, function: Function, *, exact: bool = False) -> None:
    """Enter an op of one operand, `x`."""

    def run(x: Tensor) -> Tensor:
        return function(x)

    mil(name, exact=exact)(run)


def binary(name: str, function: Function, *, exact: bool = False) -> None:
    """Enter an op of two operands, `x` and `y`, which broadcast as in numpy."""

    def run(x: Tensor, y: Tensor) -> Tensor:
        return function(x, y)

    mil(name, exact=exact)(run)
