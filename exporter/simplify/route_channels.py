"""Channel shuffles disappear into the weights around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from exporter.ir.graph import Graph, Node, Value
from exporter.simplify.channels import (
    Channels,
    Order,
    inverse,
    is_channelwise,
    is_dense,
    is_move,
    own_order,
    runs,
    torn,
)


@torch.no_grad()
def route_channels(graph: Graph) -> None:
    """Store channels in the order that needs the fewest copies, and the weights in that order with them.

        cat(u, v) - shuffle - chunk -+- v1 - conv        u, v - slice, slice - concat - conv'
                                     '- u1 ...     ->                   the rest of u and v stays where it is

    A shuffle after a concat, halved again, asks for every second channel of a *range* of u and of v; convolutions take
    them range by range just as well. So slices, concats and shuffles are followed channel by channel from the op that
    computed each, and only what an op reads is copied, in ranges. Depthwise weights and per-channel constants are
    stored in the same order, convolutions and linear layers absorb it. Exact: values move, sums over input channels
    change their order.

    Where an identity path carries shuffles past each other (Lite-HRNet's u), ranges halve each time: once they are
    shorter than `SHORTEST`, one `gather_channels` brings the channels back into the model's order.
    Declines: graphs without a shuffle.
    """
    if any(node.op.name == "gather_channels" for node in graph.nodes):
        _Router(graph).run()


class _Router:
    """Rewrites the graph from first to last node."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.channels = graph, Channels(graph)
        self._tensors: dict[tuple[Value, Order], Value] = {}
        self._weights: dict[tuple[Value, int, Order], Value] = {}
        self._tidy: dict[Value, Value] = {}

    def run(self) -> None:
        graph = self.graph
        for node in [n for n in graph.nodes if not is_move(n)]:
            if is_dense(node):
                self._absorb(node)
            elif is_channelwise(node):
                self._follow(node)
            else:
                for index, value in enumerate(list(node.inputs)):
                    self._read(node, index, own_order(value))
        for index, value in enumerate(graph.outputs):
            if self.channels.is_moved(value):
                graph.outputs[index] = self._tensor(value, own_order(value), None, value.producer)

    def _absorb(self, node: Node) -> None:
        """A convolution or linear layer: input order into the columns, output order into rows and bias."""
        x = node.inputs[0]
        order = self.channels.arranged(x) if self.channels.is_moved(x) else self.channels.order(x)
        self._read(node, 0, order)
        self._reorder(node, 1, 1, order)
        for operand in (1, 2):
            self._reorder(node, operand, 0, self.channels.order(node.output))

    def _follow(self, node: Node) -> None:
        """A channelwise op: all its operands in the order of its stream."""
        order = self.channels.order(node.output)
        for index, value in enumerate(list(node.inputs)):
            if value.const is None:
                self._read(node, index, order if value.shape[1] == len(order) else own_order(value))
            elif node.op.name == "conv2d":
                self._reorder(node, index, 0, order)
            elif value.const.dim() >= 3 and value.shape[-3] == len(order):
                self._reorder(node, index, value.const.dim() - 3, order)

    def _read(self, node: Node, index: int, order: Order) -> None:
        value = node.inputs[index]
        if self.channels.is_moved(value):
            self.graph.set_input(node, index, self._tensor(value, order, node, value.producer))

    def _reorder(self, node: Node, index: int, dim: int, order: Order) -> None:
        """Operand `index`, a constant, with its dim `dim` in `order`."""
        value = node.inputs[index]
        if order == tuple(range(len(order))):
            return
        key = (value, dim, order)
        if key not in self._weights:
            assert value.const is not None
            self._weights[key] = self.graph.constant(value.name, value.const.index_select(dim, torch.tensor(order)))
        self.graph.set_input(node, index, self._weights[key])

    # --- tensors of moved values --------------------------------------------------------------------------------------
    def _tensor(self, moved: Value, order: Order, at: Node | None, move: Node | None) -> Value:
        """The moved value with its channels in `order`, made ahead of `at`."""
        if (moved, order) not in self._tensors:
            pieces = self.channels.pieces(moved, order)
            best = self.channels.arranged(moved)
            if order != best and len(pieces) > len(self.channels.pieces(moved, best)):
                whole = self._tensor(moved, best, at, move)
                places = inverse(best)
                result = self._gathered(whole, [places[i] for i in order], at, move)
            else:
                parts = [part for value, places in pieces for part in self._copies(value, places, at, move)]
                result = parts[0]
                if len(parts) > 1:
                    result = self._emit("concat", parts, at, move, dim=1)
            self._tensors[moved, order] = result
        return self._tensors[moved, order]

    def _copies(self, value: Value, places: Sequence[int], at: Node | None, move: Node | None) -> list[Value]:
        """These stored channels of a tensor, as slices or gathered."""
        tensor = self._tensor(value, self.channels.order(value), at, move) if self.channels.is_moved(value) else value
        if self.channels.is_tidied(value):
            if value not in self._tidy:
                places_of = inverse(self.channels.order(value))
                self._tidy[value] = self._gathered(tensor, places_of, at, move)
            tensor = self._tidy[value]
        if torn(list(places)):
            return [self._gathered(tensor, places, at, move)]
        whole = (0, value.shape[1])
        return [
            tensor
            if (start, end) == whole
            else self._emit("slice", [tensor], at, move, dim=1, start=start, end=end, step=1)
            for start, end in runs(list(places))
        ]

    def _gathered(self, value: Value, places: Sequence[int], at: Node | None, move: Node | None) -> Value:
        return self._emit("gather_channels", [value], at, move, channels=tuple(places))

    def _emit(self, op: str, inputs: list[Value], at: Node | None, move: Node | None, **attrs: Any) -> Value:
        assert move is not None
        return self.graph.emit(op, inputs, source=move.source, at=at, **attrs)
