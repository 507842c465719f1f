"""An int8 graph as layers, each beside the same layer in float: what error localisation compares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from exporter.ir.graph import Graph, Node, Value
from exporter.ir.ops import Scale
from exporter.ir.run import Interpreter
from exporter.ir.tail import without_tail
from exporter.quantize.legalize import float_borders, join_float_borders
from exporter.quantize.rewrite import write_in_int8

Tensors = Mapping[str, Tensor]
"""Value name -> what it holds in float."""
ROUNDS = ("resize_bilinear", "pad")
"""Same-scale ops that do more than move codes."""


@dataclass(frozen=True)
class Layer:
    """Nodes of the int8 graph that work for one value of the float graph: a convolution with its activation, or the
    several ops that one became. Results inside are read inside; `nodes` end with the one that makes `value`.
    """

    nodes: tuple[Node, ...]
    readers: tuple[str, ...]
    """Values of the layers that read this one's."""

    @property
    def value(self) -> Value:
        """The result."""
        return self.nodes[-1].outputs[0]

    @property
    def moves(self) -> bool:
        """Whether it moves codes and nothing else."""
        return all(n.op.scale is Scale.SAME and n.op.name not in ROUNDS for n in self.nodes)


class Twin:
    """The layers of an int8 graph, up to its float tail, and the float graph that has the same values by name."""

    def __init__(self, float_graph: Graph, int8_graph: Graph, keep_float: Sequence[str] = ()) -> None:
        """`keep_float` is what `quantize` was given with `float_graph`. Neither graph is changed.

        Raises ValueError where the graphs do not belong together.
        """
        self.int8 = without_tail(int8_graph)
        self.float = float_graph.clone()
        write_in_int8(self.float, {}, keep_float)
        if all(value.quant is None for value in self.int8.inputs):
            float_borders(self.float)
            join_float_borders(self.float)
            self.float.prune()
        self.float = without_tail(self.float)
        self._float_nodes = {v.name: node for node in self.float.nodes for v in node.outputs}
        known = {v.name for v in float_graph.values()}
        self._ops = {v.name: node.op.name for node in float_graph.nodes for v in node.outputs}
        self._aliases = self._find_aliases()
        self.layers = self._find_layers(known)
        self._interpreter = Interpreter(self.int8)

    def reference(self, value: Value, floats: Tensors) -> Tensor:
        """What a value of the int8 graph stands for."""
        return floats[self._aliases[value.name]]

    def name(self, value: Value) -> str:
        """The value of the float graph that a value of the int8 graph stands for."""
        return self._aliases[value.name]

    def op(self, layer: Layer) -> str:
        """What the layer is in the float graph."""
        return self._ops.get(layer.value.name, layer.nodes[-1].op.name)

    @torch.no_grad()
    def own_error(self, layer: Layer, floats: Tensors) -> tuple[Tensor, Tensor | None]:
        """What the layer by itself adds to its result, and the part of it that rounded weights make."""
        exact = self.in_float(layer, floats)
        own = self.in_int8(layer, floats) - exact
        if not any(node.op.data_inputs == 1 for node in layer.nodes):
            return own, None
        return own, self.in_float(layer, floats, rounded_weights=True) - exact

    def in_int8(self, layer: Layer, floats: Tensors) -> Tensor:
        """The layer alone in integers, on `floats` in codes; dequantised."""
        result = self._run(layer, self._operands(layer, floats), self._interpreter.step)
        quant = layer.value.quant
        return quant.dequantize(result) if quant else result

    def in_float(self, layer: Layer, floats: Tensors, *, rounded_weights: bool = False) -> Tensor:
        """The layer alone in float, on what its codes hold of `floats`; with `rounded_weights` its constants are those
        of the int8 graph.
        """
        operands = {
            name: value.quant.dequantize(codes) if value.quant else codes
            for name, (value, codes) in self._operands(layer, floats).items()
        }

        def step(node: Node, given: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
            twin = self._float_nodes[node.outputs[0].name]
            constants = node.inputs if rounded_weights else twin.inputs
            filled = [x if x is not None else _content(c) for x, c in zip(given, constants, strict=True)]
            result = twin.op.run(*filled, **twin.attrs)
            return result if isinstance(result, tuple) else (result,)

        env: dict[str, Tensor] = dict(operands)
        for node in layer.nodes:
            results = step(node, [None if v.const is not None else env[v.name] for v in node.inputs])
            env.update(zip((v.name for v in node.outputs), results, strict=True))
        return env[layer.value.name]

    def _operands(self, layer: Layer, floats: Tensors) -> dict[str, tuple[Value, Tensor]]:
        """What the layer reads, by name: codes where they are quantised."""
        made = {id(v) for node in layer.nodes for v in node.outputs}
        read = [v for node in layer.nodes for v in node.inputs if v.const is None and id(v) not in made]
        found = {}
        for value in read:
            reference = self.reference(value, floats)
            found[value.name] = value, value.quant.quantize(reference) if value.quant else reference
        return found

    def _run(
        self,
        layer: Layer,
        operands: Mapping[str, tuple[Value, Tensor]],
        step: Callable[[Node, list[Tensor]], tuple[Tensor, ...]],
    ) -> Tensor:
        env = {name: tensor for name, (_, tensor) in operands.items()}
        for node in layer.nodes:
            given = [v.const if v.const is not None else env[v.name] for v in node.inputs]
            env.update(zip((v.name for v in node.outputs), step(node, given), strict=True))
        return env[layer.value.name]

    def _find_aliases(self) -> dict[str, str]:
        """Values have one name in both graphs, but for the conversions at uint8 borders."""
        known = {v.name for v in self.float.values()}
        aliases: dict[str, str] = {v.name: v.name for v in self.int8.inputs}
        for node in self.int8.nodes:
            for value in node.outputs:
                behind = aliases.get(node.inputs[0].name) if node.op.name in ("quantize", "dequantize") else None
                aliases[value.name] = value.name if value.name in known else behind or ""
        if strangers := [name for name, alias in aliases.items() if alias not in known]:
            raise ValueError(f"the graphs do not belong together: {strangers[0]} is in the int8 graph alone")
        return aliases

    def _find_layers(self, known: set[str]) -> list[Layer]:
        """In execution order. A node joins the one layer that reads it where the float graph has no such value."""
        head: dict[Node, Node] = {}
        for node in reversed(self.int8.nodes):
            if node.op.name == "dequantize" or node.outputs[0].name not in self._float_nodes:
                continue  # a conversion
            value = node.outputs[0]
            readers = {head.get(reader) for reader in value.uses}
            (only,) = readers if len(readers) == 1 else (None,)
            joins = value.name not in known and value not in self.int8.outputs
            inside = joins and only is not None and only.source == node.source
            head[node] = only if inside and only is not None else node
        members: dict[Node, list[Node]] = {}
        for node in self.int8.nodes:
            if node in head:
                members.setdefault(head[node], []).append(node)
        place = {node: index for index, node in enumerate(self.int8.nodes)}
        return [
            Layer(tuple(members[last]), tuple(dict.fromkeys(self._readers(last.outputs[0], head))))
            for last in sorted(members, key=place.__getitem__)
        ]

    def _readers(self, value: Value, head: Mapping[Node, Node]) -> list[str]:
        found = []
        for node in value.uses:
            if node in head:
                found.append(head[node].outputs[0].name)
            else:
                found += self._readers(node.outputs[0], head)
        return found


def _content(constant: Value) -> Tensor:
    assert constant.const is not None
    return constant.quant.dequantize(constant.const) if constant.quant else constant.const
