"""Storage order, chosen once per value and nowhere else.

The graph is NCHW; TFLite's convolutions, pools and resizes want NHWC. A 4-D value is stored NHWC or in PyTorch's order.
Ops are *bound* (they need NHWC), *transparent* (all operands alike; axes are remapped) or *breaking* (PyTorch's order).
Values that transparent ops connect form a group; a group is NHWC when a bound op or the graph's own input or output
touches it, except where the model permutes or reshapes that input or output itself. EfficientDet-D0 then needs no
transpose; wrapping each op in transposes would need 480 (DESIGN.md §3).
"""

from __future__ import annotations

from exporter.ir.graph import Graph, Node, Value
from exporter.ir.ops import Layout

NHWC = (0, 2, 3, 1)
"""Stored dim i is dim NHWC[i] of the value."""


class Layouts:
    """Which values of a graph are stored NHWC, and how their axes and shapes read then."""

    def __init__(self, graph: Graph) -> None:
        self._parent: dict[int, int] = {}
        bound = [v for v in [*graph.inputs, *graph.outputs] if len(v.shape) == 4 and not _ordered_by_user(v)]
        for node in graph.nodes:
            kind = layout_of(node)
            operands = [v for v in [*node.data_inputs, *node.outputs] if len(v.shape) == 4]
            if kind is Layout.BOUND:
                bound += [v for v in (node.inputs[0], *node.outputs) if len(v.shape) == 4]
            elif kind is Layout.TRANSPARENT:
                for value in operands[1:]:
                    self._parent[self._root(id(value))] = self._root(id(operands[0]))
        self._nhwc = {self._root(id(v)) for v in bound}

    def is_nhwc(self, value: Value) -> bool:
        """Whether `value` is stored NHWC."""
        return len(value.shape) == 4 and self._root(id(value)) in self._nhwc

    def shape(self, value: Value) -> tuple[int, ...]:
        """The stored shape."""
        return tuple(value.shape[d] for d in NHWC) if self.is_nhwc(value) else value.shape

    def dim(self, value: Value, dim: int) -> int:
        """Where dim `dim` of the value is stored."""
        return NHWC.index(dim) if self.is_nhwc(value) else dim

    def per_dim(self, value: Value, items: tuple[int, ...]) -> list[int]:
        """One item per dim of the value, in stored order."""
        return [items[d] for d in NHWC] if self.is_nhwc(value) else list(items)

    def _root(self, key: int) -> int:
        while (parent := self._parent.get(key, key)) != key:
            key = parent
        return key


def _ordered_by_user(value: Value) -> bool:
    """Whether the model itself made or reads this input or output in an order of its own (permute, reshape)."""
    neighbours = [value.producer] if value.producer else value.uses
    return any(layout_of(node) is Layout.BREAKING for node in neighbours)


def layout_of(node: Node) -> Layout:
    """The op's rule, except where operands of other ranks make a transparent op breaking."""
    if node.op.layout is not Layout.TRANSPARENT:
        return node.op.layout
    ranks = {len(v.shape) for v in [*node.data_inputs, *node.outputs]}
    if node.op.name in ("mean", "amax") and node.inputs[0].shape and len(node.inputs[0].shape) == 4:
        drops_to_matrix = node.attrs["keepdim"] or node.attrs["dims"] == (2, 3)
        return Layout.TRANSPARENT if drops_to_matrix else Layout.BREAKING
    return Layout.TRANSPARENT if len(ranks) == 1 else Layout.BREAKING


def same_bytes(shape: tuple[int, ...]) -> bool:
    """Whether NCHW and NHWC store a 4-D tensor alike: one channel or one pixel."""
    return shape[1] == 1 or shape[2] * shape[3] == 1
