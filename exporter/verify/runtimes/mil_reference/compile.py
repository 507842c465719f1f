"""From the stored program to steps: names resolved, constants bound, and what depends on constants alone computed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from exporter.errors import DataError, UnsupportedError
from exporter.verify.runtimes.mil_reference.ops import OPS, Meaning
from exporter.verify.runtimes.mil_reference.package import Package, broken
from exporter.verify.runtimes.mil_reference.program import Operand, Program, Step, plain
from exporter.verify.runtimes.mil_reference.values import Constants, Value


def compile_program(package: Package, stored: Any) -> Program:
    """The main function of a MILSpec.Program. Raises UnsupportedError for ops without a meaning here, all at once, and
    DataError for a broken file.
    """
    function = stored.functions.get("main")
    block = function.block_specializations.get(function.opset) if function is not None else None
    if function is None or block is None:
        raise broken(package.path, "its program has no function main for its opset")
    unknown = [op for op in block.operations if op.type not in OPS and op.type != "const"]
    if unknown:
        raise UnsupportedError(
            f"the reference executor has no meaning for {len(unknown)} ops of {package.path.name}",
            where=[f"{op.type}  {', '.join(output.name for output in op.outputs)}" for op in unknown],
            why=f"they are written for {function.opset}",
        )
    constants = Constants(package)
    inputs = {entry.name: constants.type_of(entry.type, entry.name) for entry in function.inputs}
    program = Program(function.opset, inputs, tuple(block.outputs), (), {}, dict(inputs))
    compiled = (_Compiled(package, program, constants, op).step() for op in block.operations)
    program.steps = tuple(step for step in compiled if step is not None)
    if lost := [name for name in program.outputs if name not in program.types]:
        raise broken(package.path, f"nothing computes its output {lost[0]}")
    return program


class _Compiled:
    """One operation of the file on its way into `program`."""

    def __init__(self, package: Package, program: Program, constants: Constants, stored: Any) -> None:
        self._package, self._program, self._constants, self._stored = package, program, constants, stored
        if not stored.outputs:
            raise broken(package.path, f"a {stored.type} has no output")
        self._names = tuple(output.name for output in stored.outputs)
        self._where = f"{stored.type}  {self._names[0]}"

    def step(self) -> Step | None:
        """The step; None for a constant, and for what is computed of constants, which enter the program's."""
        program, names, kind = self._program, self._names, self._stored.type
        types = {o.name: self._constants.type_of(o.type, o.name) for o in self._stored.outputs}
        if kind == "const":
            program.constants[names[0]] = self._constants.value(self._stored.attributes["val"], names[0])
            program.types |= types
            return None
        meaning = OPS[kind]
        fixed, operands = self._attributes(meaning), []
        for parameter, argument in self._stored.inputs.items():
            read = [self._name(parameter, index, bound) for index, bound in enumerate(argument.arguments)]
            if not read:
                raise broken(self._package.path, f"{self._where} has nothing bound to {parameter}")
            tensor, many = parameter in meaning.tensors, parameter in meaning.lists
            if not many and read[0] in program.constants:
                fixed[parameter] = _taken(program.constants[read[0]], tensor)
            else:
                operands.append(Operand(parameter, tuple(read), many, tensor))
        self._check(meaning, [*fixed, *self._stored.inputs])
        program.types |= types
        rounds = not meaning.exact and any(each.dtype == "float16" for each in types.values())
        step = Step(kind, names, tuple(types.values()), tuple(operands), partial(meaning.run, **fixed), rounds)
        if step.reads <= program.constants.keys():
            program.constants.update(zip(names, step.results(program.constants.__getitem__), strict=True))
            return None
        return step

    def _attributes(self, meaning: Meaning) -> dict[str, Any]:
        """Up to iOS 17, constexpr ops have their operands here; other ops have their names and notes alone."""
        if not self._stored.type.startswith("constexpr_"):
            return {}
        stored: Mapping[str, Any] = self._stored.attributes
        values = {
            name: self._constants.value(stored[name], f"{self._names[0]}.{name}") for name in stored if name != "name"
        }
        return {name: _taken(value, name in meaning.tensors) for name, value in values.items()}

    def _name(self, parameter: str, index: int, bound: Any) -> str:
        """What is bound to a parameter; a value that stands there itself becomes a constant with a name of its own."""
        program, name = self._program, str(bound.name)
        if bound.WhichOneof("binding") == "value":
            name = f"{self._names[0]}.{parameter}.{index}"
            program.constants[name] = self._constants.value(bound.value, name)
            program.types[name] = self._constants.type_of(bound.value.type, name)
        if name not in program.types:
            raise broken(self._package.path, f"{self._where} reads {name}, which is not computed before it")
        return name

    def _check(self, meaning: Meaning, parameters: Collection[str]) -> None:
        if unknown := sorted(set(parameters) - meaning.parameters):
            raise UnsupportedError(
                f"the reference executor does not know the parameter {unknown[0]}", where=self._where
            )
        if missing := sorted(meaning.required - set(parameters)):
            raise DataError(f"an op lacks its parameter {missing[0]}", where=self._where)


def _taken(value: Value, tensor: bool) -> Any:
    """A constant as the op takes it; weights in the memory format that torch's convolutions are fastest in."""
    if not tensor:
        return plain(value)
    if isinstance(value, Tensor) and value.dim() == 4:
        return value.contiguous(memory_format=torch.channels_last)
    return value
