"""A compiled MIL program: steps that torch runs.

Numbers of float16 are emulated: an op whose result is float16 computes in float32 and rounds its result; how a device
adds up inside an op (in float16 or float32, in which order) is not emulated. A float16 value is held as a float32
tensor of float16 numbers, so that it is converted once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from exporter.errors import DataError, ExportError, UsageError
from exporter.verify.runtimes.mil_reference.values import HELD, Type, Value


@dataclass(frozen=True)
class Operand:
    """One input of an op that is known when it runs: the names of its values, and how it is taken."""

    parameter: str
    names: tuple[str, ...]
    many: bool
    tensor: bool


@dataclass(frozen=True)
class Step:
    """One op. `run` has its constants already; `round` says that its float16 results are float32 numbers as it gives
    them.
    """

    op: str
    outputs: tuple[str, ...]
    types: tuple[Type, ...]
    operands: tuple[Operand, ...]
    run: Callable[..., Any]
    round: bool

    @property
    def reads(self) -> set[str]:
        """Names of the values that it takes."""
        return {name for operand in self.operands for name in operand.names}

    def results(self, at: Callable[[str], Any]) -> list[Value]:
        """What the op gives; `at` finds a value by name. Raises DataError where it cannot be computed."""
        operands = {}
        for operand in self.operands:
            taken = [at(name) for name in operand.names]
            value = taken if operand.many else taken[0]
            operands[operand.parameter] = value if operand.tensor else plain(value)
        try:
            found = self.run(**operands)
        except ExportError as error:
            error.where = (*error.where, f"{self.op}  {self.outputs[0]}")
            raise
        except Exception as error:  # torch's own, for operands that the op cannot take
            what = f"{self.op} {self.outputs[0]} cannot be computed"
            raise DataError(what, why=str(error).splitlines()[0] if str(error) else type(error).__name__) from error
        each = found if isinstance(found, tuple) else (found,)
        if len(each) != len(self.types):
            raise DataError(
                f"{self.op} {self.outputs[0]} has {len(self.types)} results in the file and gives {len(each)}"
            )
        return [conform(result, kind, self) for result, kind in zip(each, self.types, strict=True)]


@dataclass(frozen=True)
class Plan:
    """The steps of one run in order, each with the values that nobody reads after it."""

    steps: tuple[tuple[Step, tuple[str, ...]], ...]
    results: tuple[str, ...]


@dataclass
class Program:
    """The main function of a program. `types` has the type of every value of it."""

    opset: str
    inputs: dict[str, Type]
    outputs: tuple[str, ...]
    steps: tuple[Step, ...]
    constants: dict[str, Value]
    types: dict[str, Type]
    plans: dict[tuple[frozenset[str], frozenset[str]], Plan] = field(default_factory=dict)

    @torch.no_grad()
    def run(
        self, inputs: Mapping[str, np.ndarray], given: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """The outputs, and what was computed for the values of `given`, by name.

        A value of `given` is computed where its operands are at hand, recorded, and replaced by the given array for all
        that read it. Values without operands at hand start there. Raises UsageError for a name or a shape that the
        program does not have, and where an output cannot be computed.
        """
        given = given or {}
        plan = self._plan(frozenset(inputs), frozenset(given))
        if fixed := [name for name in given if name in self.constants]:
            raise UsageError(f"{fixed[0]} is a constant of the program")
        forced = {name: self._held(name, array) for name, array in given.items()}
        values: dict[str, Any] = {name: self._held(name, array) for name, array in inputs.items()} | forced
        found: dict[str, np.ndarray] = {}
        for step, last in plan.steps:
            for name, kind, result in zip(
                step.outputs, step.types, step.results(partial(self._at, values=values)), strict=True
            ):
                if name in forced or name in plan.results:
                    found[name] = kind.give(result)
                values[name] = forced.get(name, result)
            for name in last:
                del values[name]
        for name in plan.results:  # an output that is an input, or a constant
            if name not in found:
                found[name] = self.types[name].give(self._at(name, values))
        return found

    def _at(self, name: str, values: Mapping[str, Any]) -> Any:
        return values[name] if name in values else self.constants[name]

    @torch.no_grad()
    def value(self, name: str, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """One value of the program, computed from the inputs; nothing else runs."""
        values: dict[str, Any] = {given: self._held(given, array) for given, array in inputs.items()}
        for step, _ in self._planned(inputs, (), (name,)).steps:
            values.update(zip(step.outputs, step.results(partial(self._at, values=values)), strict=True))
        return self.types[name].give(self._at(name, values))

    def _held(self, name: str, array: np.ndarray) -> Tensor:
        kind = self.types.get(name)
        if kind is None:
            raise UsageError(f"the program has no value {name}")
        if kind.shape is not None and tuple(np.shape(array)) != kind.shape:
            raise UsageError(f"{name} is {list(np.shape(array))}, must be {list(kind.shape)}")
        tensor = kind.hold(array)
        return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor

    def _plan(self, inputs: frozenset[str], given: frozenset[str]) -> Plan:
        if (inputs, given) not in self.plans:
            self.plans[inputs, given] = self._planned(inputs, given, self.outputs)
        return self.plans[inputs, given]

    def _planned(self, inputs: Collection[str], given: Collection[str], wanted: tuple[str, ...]) -> Plan:
        ready = {*inputs, *given, *self.constants}
        possible = []
        for step in self.steps:
            if step.reads <= ready:
                possible.append(step)
                ready.update(step.outputs)
        if missing := [name for name in wanted if name not in ready]:
            raise UsageError(
                f"{missing[0]} cannot be computed from the arrays given", try_=f"inputs: {', '.join(self.inputs)}"
            )
        needed = {*wanted, *given}
        kept: list[tuple[Step, tuple[str, ...]]] = []
        later = {*wanted}
        for step in reversed(possible):
            if not needed & set(step.outputs):
                continue
            here = {*step.reads, *step.outputs} - set(self.constants)
            kept.append((step, tuple(sorted(here - later))))
            later |= here
            needed |= step.reads
        return Plan(tuple(reversed(kept)), wanted)


def plain(value: Any) -> Any:
    """A tensor as a Python number or list."""
    return value.tolist() if isinstance(value, Tensor) else value


def conform(result: Value, kind: Type, step: Step) -> Value:
    """What an op gave as the value that the file declares: rounded to float16, of its element type and shape."""
    if not isinstance(result, Tensor):
        return result
    if kind.shape is not None and tuple(result.shape) != kind.shape:
        raise DataError(
            f"{step.op} {step.outputs[0]} is {list(kind.shape)} in the file and {list(result.shape)} by its operands"
        )
    held = _held_as(kind.dtype)
    if result.dtype != held:
        result = result.to(held)
    return result.half().float() if step.round and kind.dtype == "float16" else result


@lru_cache
def _held_as(dtype: str) -> torch.dtype:
    return HELD[dtype]
