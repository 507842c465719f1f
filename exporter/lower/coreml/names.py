"""The names of a graph's values in a MIL program: identifiers, the same on every run."""

from __future__ import annotations

import re
from collections.abc import Iterable

from exporter.ir.graph import Graph

_RESERVED = frozenset(
    ["any", "bool", "program", "func", "tensor", "list", "dict", "tuple", "true", "false", "string", "state",
     "bf16", "fp16", "fp32", "fp64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
)  # fmt: skip
"""Words of MIL's own (coremltools, NameSanitizer)."""


def is_identifier(name: str) -> bool:
    """Whether MIL takes a name as it is."""
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is not None and name not in _RESERVED


def identifier(name: str) -> str:
    """The name with every other character replaced by an underscore."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return name if is_identifier(name) else f"_{name}"


def fresh(name: str, taken: Iterable[str]) -> str:
    """`name` as an identifier that is not among `taken`; numbered from 2 where it must be."""
    base = unique = identifier(name)
    number = 1
    while unique in taken:
        number += 1
        unique = f"{base}_{number}"
    return unique


def names(graph: Graph) -> dict[str, str]:
    """Value name -> the tensor of the program that holds the value: codes where it is quantised.

    Float inputs and outputs keep their names; a value returned twice has the first. `normalised(name)` stands for the
    normalised picture of the input of that name, where it takes one.
    """
    taken = {*(value.name for value in graph.inputs), *graph.output_names}
    found = {value.name: value.name for value in graph.inputs if value.quant is None}
    extra = [(normalised(value.name), normalised(value.name)) for value in graph.inputs]
    extra += [(value.name, f"{value.name}_codes") for value in graph.inputs if value.quant is not None]
    for name, value in zip(graph.output_names, graph.outputs, strict=True):
        if value.producer is not None and value.quant is None:
            found.setdefault(value.name, name)
        elif value.producer is not None:
            extra.append((value.name, f"{name}_codes"))
    for name, wanted in [*extra, *((value.name, value.name) for value in graph.values())]:
        if name not in found:
            found[name] = fresh(wanted, taken)
            taken.add(found[name])
    return found


def normalised(name: str) -> str:
    """What `names` calls the picture of that input once it is normalised."""
    return f"{name}_normalised"
