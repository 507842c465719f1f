"""A MIL program, compiled once into steps that torch runs.

Numbers of float16 are emulated: an op whose result is float16 computes in float32 and rounds its result; how a device
adds up inside an op (in float16 or float32, in which order) is not emulated. A float16 value is held as a float32
tensor of float16 numbers, so that it is converted once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from exporter.errors import DataError, ExportError, UnsupportedError, UsageError
from exporter.verify.runtimes.mil_reference.ops import OPS, Meaning
from exporter.verify.runtimes.mil_reference.package import Package, broken
from exporter.verify.runtimes.mil_reference.values import HELD, Constants, Type, Value

COMPRESSED = "constexpr_"
"""Ops of this prefix are computed when the program is read."""


@dataclass(frozen=True)
class Operand:
    """One input of an op that is known when it runs: the names of its values, and how it is taken."""

    parameter: str
    names: tuple[str, ...]
    many: bool
    tensor: bool


@dataclass(frozen=True)
class Step:
    """One op. `run` has its constants already; `round` says which results are float16 and still exact to float32."""

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
        forced = {name: self._held(name, array) for name, array in given.items()}
        values: dict[str, Any] = {name: self._held(name, array) for name, array in inputs.items()} | forced
        found: dict[str, np.ndarray] = {}
        for step, last in plan.steps:
            for name, kind, result in zip(step.outputs, step.types, self._step(step, values), strict=True):
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

    def _step(self, step: Step, values: Mapping[str, Any]) -> Sequence[Value]:
        operands = {}
        for operand in step.operands:
            taken = [self._at(name, values) for name in operand.names]
            value = taken if operand.many else taken[0]
            operands[operand.parameter] = value if operand.tensor else plain(value)
        try:
            results = step.run(**operands)
        except ExportError as error:
            error.where = (*error.where, f"{step.op}  {step.outputs[0]}")
            raise
        except Exception as error:  # torch's own, for operands that the op cannot take
            raise DataError(
                f"{step.op} {step.outputs[0]} cannot be computed", why=str(error).splitlines()[0]
            ) from error
        return [
            conform(result, kind, step)
            for result, kind in zip(results if isinstance(results, tuple) else (results,), step.types, strict=True)
        ]

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
            self.plans[inputs, given] = self._planned(inputs, given)
        return self.plans[inputs, given]

    def _planned(self, inputs: Collection[str], given: Collection[str]) -> Plan:
        ready = {*inputs, *given, *self.constants}
        possible = []
        for step in self.steps:
            if step.reads <= ready:
                possible.append(step)
                ready.update(step.outputs)
        if missing := [name for name in self.outputs if name not in ready]:
            raise UsageError(
                f"{missing[0]} cannot be computed from the arrays given", try_=f"inputs: {', '.join(self.inputs)}"
            )
        needed = {*self.outputs, *given}
        kept: list[tuple[Step, tuple[str, ...]]] = []
        later = {*self.outputs}
        for step in reversed(possible):
            if not needed & set(step.outputs):
                continue
            here = {*step.reads, *step.outputs} - set(self.constants)
            kept.append((step, tuple(sorted(here - later))))
            later |= here
            needed |= step.reads
        return Plan(tuple(reversed(kept)), self.outputs)


def read_program(package: Package) -> Program:
    """Compile the main function. Raises UnsupportedError for what has no meaning here, DataError for a broken file."""
    return compile_program(package, package.model.mlProgram)


def compile_program(package: Package, stored: Any) -> Program:
    """The same for a program that is one model of a pipeline; all ops without a meaning in one error."""
    function = stored.functions.get("main")
    block = function.block_specializations.get(function.opset) if function is not None else None
    if function is None or block is None:
        raise broken(package.path, "its program has no function main for its opset")
    constants = Constants(package)
    inputs = {entry.name: constants.type_of(entry.type, entry.name) for entry in function.inputs}
    program = Program(function.opset, inputs, tuple(block.outputs), (), {}, dict(inputs))
    unknown = sorted({(o.type, o.outputs[0].name) for o in block.operations if o.type not in OPS and o.type != "const"})
    if unknown:
        raise UnsupportedError(
            f"the reference executor has no meaning for {len(unknown)} ops of {package.path.name}",
            where=[f"{kind}  {name}" for kind, name in unknown],
            why=f"they are written for {function.opset}",
        )
    program.steps = tuple(s for o in block.operations if (s := _entered(package, program, constants, o)) is not None)
    if lost := [name for name in program.outputs if name not in program.types]:
        raise broken(package.path, f"nothing computes its output {lost[0]}")
    return program


def _entered(package: Package, program: Program, constants: Constants, stored: Any) -> Step | None:
    """The op as a step; a constant, or what is computed of constants alone, enters the program's constants instead."""
    names = tuple(output.name for output in stored.outputs)
    program.types.update({o.name: constants.type_of(o.type, o.name) for o in stored.outputs})
    if stored.type == "const":
        program.constants[names[0]] = constants.value(stored.attributes["val"], names[0])
        return None
    fixed: dict[str, Any] = {}
    operands = []
    meaning = OPS[stored.type]
    arguments = {name: list(argument.arguments) for name, argument in stored.inputs.items()}
    where = f"{stored.type}  {names[0]}"
    if stored.type.startswith(COMPRESSED):
        fixed |= {
            name: _taken(constants.value(value, f"{names[0]}.{name}"), name in meaning.tensors)
            for name, value in stored.attributes.items()
            if name != "name"
        }
    for parameter, bindings in arguments.items():
        tensor = parameter in meaning.tensors
        many = "list[Tensor" in str(meaning.run.__annotations__.get(parameter, ""))
        read = []
        for index, binding in enumerate(bindings):
            if binding.WhichOneof("binding") == "value":
                name = f"{names[0]}.{parameter}.{index}"
                program.constants[name] = constants.value(binding.value, name)
                program.types[name] = constants.type_of(binding.value.type, name)
            else:
                name = binding.name
            if name not in program.types:
                raise broken(package.path, f"{where} reads {name}, which is not computed before it")
            read.append(name)
        if not many and len(read) == 1 and read[0] in program.constants:
            fixed[parameter] = _taken(program.constants[read[0]], tensor)
        else:
            operands.append(Operand(parameter, tuple(read), many, tensor))
    _check_parameters(meaning, {*fixed, *arguments}, where)
    types = tuple(program.types[name] for name in names)
    rounds = not meaning.exact and any(kind.dtype == "float16" for kind in types)
    step = Step(stored.type, names, types, tuple(operands), partial(meaning.run, **fixed), rounds)
    if step.reads <= program.constants.keys():
        program.constants.update(zip(names, program._step(step, {}), strict=True))
        return None
    return step


def _check_parameters(meaning: Meaning, parameters: Collection[str], where: str) -> None:
    if unknown := sorted(set(parameters) - meaning.parameters):
        raise UnsupportedError(f"the reference executor does not know the parameter {unknown[0]}", where=where)
    if missing := sorted(meaning.required - set(parameters)):
        raise DataError(f"an op lacks its parameter {missing[0]}", where=where)


def _taken(value: Value, tensor: bool) -> Any:
    """A constant as the op takes it; weights in the memory format that torch's convolutions are fastest in."""
    if not tensor:
        return plain(value)
    if isinstance(value, Tensor) and value.dim() == 4:
        return value.contiguous(memory_format=torch.channels_last)
    return value


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
