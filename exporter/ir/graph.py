"""The graph: values, nodes and the few verbs that passes use. Axis order is PyTorch's (NCHW) everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from exporter.ir.ops import OPS, Op
from exporter.ir.quant import QuantParams


@dataclass(frozen=True, slots=True)
class Source:
    """Where a node comes from in the user's model: module path, file, line and the text of that line."""

    module: str = ""
    file: str = ""
    line: int = 0
    code: str = ""

    def __str__(self) -> str:
        line = "  ".join(part for part in (f"{self.file}:{self.line}" if self.file else "", self.code) if part)
        return f"{self.module or '(top level)'}" + (f"  ({line})" if line else "")


@dataclass(eq=False, slots=True)
class Value:
    """A tensor: a graph input, a constant (`const` holds it) or the output of `producer`.

    `quant` None means float32. `uses` holds one entry per operand that reads the value, so a node that reads it twice
    stands there twice.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    const: Tensor | None = None
    quant: QuantParams | None = None
    producer: Node | None = None
    uses: list[Node] = field(default_factory=list)

    @property
    def numel(self) -> int:
        """Number of elements."""
        return int(torch.Size(self.shape).numel())

    def __repr__(self) -> str:
        return f"Value({self.name} {list(self.shape)})"


@dataclass(eq=False, slots=True)
class Node:
    """One op applied to values. Change operands through `Graph`, which keeps `uses` right."""

    op: Op
    inputs: list[Value]
    outputs: list[Value]
    attrs: dict[str, Any]
    source: Source

    @property
    def output(self) -> Value:
        """The only output."""
        (value,) = self.outputs
        return value

    @property
    def data_inputs(self) -> list[Value]:
        """The operands that carry activations (not weights, bias or other constants)."""
        return [v for v in self.inputs[: self.op.data_inputs] if v.const is None]

    def __repr__(self) -> str:
        return f"Node({self.op.name} -> {', '.join(v.name for v in self.outputs)})"


class Graph:
    """Nodes in execution order, with named inputs and outputs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.inputs: list[Value] = []
        self.outputs: list[Value] = []
        self.output_names: list[str] = []
        self.nodes: list[Node] = []
        self._names: dict[str, int] = {}

    # --- building -----------------------------------------------------------------------------------------------------
    def add_input(self, name: str, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Value:
        """Append a graph input."""
        value = Value(self.unique(name), tuple(shape), dtype)
        self.inputs.append(value)
        return value

    def constant(self, name: str, tensor: Tensor, quant: QuantParams | None = None) -> Value:
        """A new constant value holding `tensor` (not copied)."""
        return Value(self.unique(name), tuple(tensor.shape), tensor.dtype, tensor.detach(), quant)

    def emit(
        self,
        op: str,
        inputs: Sequence[Value],
        *,
        name: str = "",
        source: Source | None = None,
        at: Node | None = None,
        **attrs: Any,
    ) -> Value:
        """Add a node ahead of `at` (default: at the end) and return its output.

        The output's shape and dtype come from running the op's torch meaning on meta tensors.
        """
        (output,) = self.emit_all(op, inputs, name=name, source=source, at=at, **attrs)
        return output

    def emit_all(
        self,
        op: str,
        inputs: Sequence[Value],
        *,
        name: str = "",
        source: Source | None = None,
        at: Node | None = None,
        **attrs: Any,
    ) -> list[Value]:
        """`emit` for an op of several outputs: returns all of them."""
        definition, source = OPS[op], source or Source()
        name = name or f"{source.module or self.name}/{op}"
        outputs = [Value(self.unique(name), shape, dtype) for shape, dtype in infer(definition, inputs, attrs)]
        node = Node(definition, list(inputs), outputs, attrs, source)
        for value in outputs:
            value.producer = node
        for value in inputs:
            value.uses.append(node)
        self.nodes.insert(self.nodes.index(at) if at else len(self.nodes), node)
        return outputs

    def unique(self, name: str) -> str:
        """`name`, or `name.2`, `name.3`, … when it is taken."""
        count = self._names[name] = self._names.get(name, 0) + 1
        return name if count == 1 else self.unique(f"{name}.{count}")

    def set_outputs(self, outputs: Mapping[str, Value]) -> None:
        """Declare the graph's outputs by name, in order."""
        self.output_names, self.outputs = list(outputs), list(outputs.values())

    # --- rewriting ----------------------------------------------------------------------------------------------------
    def set_input(self, node: Node, index: int, value: Value) -> None:
        """Point operand `index` of `node` at `value`."""
        node.inputs[index].uses.remove(node)
        node.inputs[index] = value
        value.uses.append(node)

    def replace_all_uses(self, old: Value, new: Value, *, but: Iterable[Node] = ()) -> None:
        """Make every reader of `old` (graph outputs too) read `new`, except the nodes in `but`."""
        kept = set(but)
        for node in dict.fromkeys(old.uses):
            if node in kept:
                continue
            for index, value in enumerate(node.inputs):
                if value is old:
                    self.set_input(node, index, new)
        self.outputs = [new if value is old else value for value in self.outputs]

    def remove(self, node: Node) -> None:
        """Delete a node whose outputs nobody reads."""
        for value in node.outputs:
            if value.uses or value in self.outputs:
                raise ValueError(f"{value.name} is still read")
        for value in node.inputs:
            value.uses.remove(node)
        self.nodes.remove(node)

    def prune(self) -> None:
        """Remove every node that no output depends on."""
        for node in reversed(list(self.nodes)):
            if not any(value.uses or value in self.outputs for value in node.outputs):
                self.remove(node)

    def clone(self) -> Graph:
        """A structural copy with the same names; constant tensors are shared, everything else is new."""
        other = Graph(self.name)
        other._names = dict(self._names)
        copies: dict[int, Value] = {}

        def copy(value: Value) -> Value:
            if id(value) not in copies:
                copies[id(value)] = Value(value.name, value.shape, value.dtype, value.const, value.quant)
            return copies[id(value)]

        other.inputs = [copy(v) for v in self.inputs]
        for node in self.nodes:
            twin = Node(
                node.op, [copy(v) for v in node.inputs], [copy(v) for v in node.outputs], dict(node.attrs), node.source
            )
            for value in twin.inputs:
                value.uses.append(twin)
            for value in twin.outputs:
                value.producer = twin
            other.nodes.append(twin)
        other.outputs, other.output_names = [copy(v) for v in self.outputs], list(self.output_names)
        return other

    # --- reading ------------------------------------------------------------------------------------------------------
    def values(self) -> Iterator[Value]:
        """Inputs, then constants and node outputs in order of first appearance, each once."""
        seen: set[int] = set()
        for value in [*self.inputs, *(v for node in self.nodes for v in [*node.inputs, *node.outputs]), *self.outputs]:
            if id(value) not in seen:
                seen.add(id(value))
                yield value

    def consumers(self, value: Value) -> list[Node]:
        """The nodes that read `value`, each once."""
        return list(dict.fromkeys(value.uses))

    def tail(self) -> set[Node]:
        """The float tail: every `float_tail` node and all that depends on one."""
        found: set[Node] = set()
        for node in self.nodes:
            if node.op.name == "float_tail" or any(v.producer in found for v in node.inputs):
                found.add(node)
        return found

    def only_consumer(self, value: Value) -> Node | None:
        """The one node that reads `value` when nobody else does, graph outputs included."""
        nodes = self.consumers(value)
        return nodes[0] if len(nodes) == 1 and value not in self.outputs else None


Signature = tuple[tuple[int, ...], torch.dtype]
"""Shape and dtype of one tensor."""


def infer(op: Op, inputs: Sequence[Value], attrs: Mapping[str, Any]) -> tuple[Signature, ...]:
    """Shapes and dtypes of the op's outputs, from its meaning on meta tensors. Codes count as float32."""
    return _infer(op, tuple((v.shape, v.dtype) for v in inputs), tuple(attrs.items()))


@lru_cache(maxsize=65536)
def _infer(op: Op, inputs: tuple[Signature, ...], attrs: tuple[tuple[str, Any], ...]) -> tuple[Signature, ...]:
    """Cached: a graph repeats few shapes, and the checker asks again after every pass."""
    metas = [torch.empty(shape, dtype=dtype, device="meta") for shape, dtype in inputs]
    result = op.run(*metas, **dict(attrs))
    return tuple((tuple(t.shape), t.dtype) for t in (result if isinstance(result, tuple) else (result,)))
