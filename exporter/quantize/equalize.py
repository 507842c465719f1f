"""Cross-layer equalisation: channels of one tensor get ranges alike, by scales that cancel out exactly.

A channel scaled by s where it is made, and by 1/s where it is read, leaves the float function as it was (Nagel et al.,
"Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, §4.1). Here the channel is followed
through every op that commutes with a positive scale (ReLU, pooling, resizing, sums, moves of channels, gates), so
residual streams are equalised as a whole; where any other op reads it (SiLU, a clamp), or the graph ends, it stays.
Scales are powers of two: the float model's results do not change by a bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from exporter.errors import DataError
from exporter.ir.depthwise import is_depthwise
from exporter.ir.graph import Graph, Node, Value
from exporter.ir.run import Interpreter
from exporter.ir.tail import without_tail

MOST_OCTAVES = 10
"""Scales lie between 2^-10 and 2^10: beyond, a channel is as good as dead."""
UNARY = frozenset({"relu", "leaky_relu", "max_pool2d", "avg_pool2d", "resize_nearest", "resize_bilinear"})
SUMS = frozenset({"add", "sub", "maximum"})
RANKS = {"conv2d": 4, "linear": 2}
"""Weighted ops, and the rank at which their channels are dim 1: a linear layer of images mixes columns."""
HOMOGENEOUS = ("none", "relu")
"""Activations that commute with a positive scale."""

Octaves = dict[str, tuple[int, ...]]
"""Value name -> log2 of the scale of each of its channels."""
Reached = dict[str, np.ndarray]
"""Value name -> the largest size of an element of each channel."""


def equalization(graph: Graph, samples: Iterable[Sequence[Tensor]]) -> Octaves:
    """What equalises the simplified float `graph`, by what its channels reach on `samples`; empty where nothing would
    change.
    """
    channels = _Channels(graph)
    octaves = channels.octaves(_reached(graph, channels, samples))
    found = {v.name: tuple(channels.of(v, octaves).tolist()) for v in channels.start}
    return {name: scales for name, scales in found.items() if any(scales)}


def equalize(graph: Graph, octaves: Octaves) -> None:
    """Scale channels of the simplified float `graph`, in place, as `equalization` found it for this graph. Raises
    DataError where its values have other names or channels.
    """
    values = {v.name: v for v in graph.values()}
    if foreign := [n for n, s in octaves.items() if n not in values or values[n].shape[1] != len(s)]:
        raise DataError(
            f"the plan scales channels of {len(foreign)} values that the model does not have",
            where=foreign[:8],
            why="it was made for another model, size or version",
            try_="calibrate again (leave --plan out)",
        )
    none = np.zeros(0, np.int64)
    for node in [n for n in graph.nodes if _is_free(n)]:
        made, read = (np.array(octaves.get(v.name, none)) for v in (node.output, node.inputs[0]))
        _rescale(graph, node, made, read)


class _Channels:
    """Every channel of every value, and which of them can only be scaled together (one *class*), or not at all."""

    def __init__(self, graph: Graph) -> None:
        self.start: dict[Value, int] = {}
        self.weighted = [n for n in graph.nodes if _is_free(n)]
        count = 0
        for value in graph.values():
            if value.const is None and len(value.shape) in (2, 4):
                self.start[value] = count
                count += value.shape[1]
        ties = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
        pinned = [*graph.inputs, *graph.outputs]
        free = set(self.weighted)
        for node in graph.nodes:
            if node in free:
                continue
            found = list(self._ties(node))
            ties += found
            if not found:
                pinned += [v for v in [*node.inputs, *node.outputs] if v.const is None]
            elif node.op.name == "mul" and len(node.data_inputs) == 2:
                pinned.append(_gate(node))
        self._class = _classes(count, ties)
        self._pinned = np.zeros(count, bool)
        for value in pinned:
            if value in self.start:
                self._pinned[self._class[self._slots(value)]] = True

    def of(self, value: Value, octaves: np.ndarray) -> np.ndarray:
        """The octaves of the value's channels."""
        found: np.ndarray = octaves[self._slots(value)]
        return found

    def octaves(self, reached: Reached) -> np.ndarray:
        """log2 of the scale of every channel.

        A class spans the part a of its tensors' ranges and, where dense weights read it, the part b of theirs: the
        scale sqrt(b / a) makes both alike; a depthwise convolution, whose weights have a scale for each channel, sets
        no b.
        """
        part, weights = np.zeros(len(self._class)), np.zeros(len(self._class))
        for value in self.start:
            if value.name in reached and (most := reached[value.name].max()) > 0:
                np.maximum.at(part, self._class[self._slots(value)], reached[value.name] / most)
        for node in self.weighted:
            if not (node.op.name == "conv2d" and is_depthwise(node)) and (columns := _columns(node)).max() > 0:
                np.maximum.at(weights, self._class[self._slots(node.inputs[0])], columns / columns.max())
        scaled = (part > 0) & ~self._pinned
        ratio = np.where(weights > 0, weights, 1.0) / np.where(scaled, part, 1.0)
        octaves = np.rint(np.log2(ratio) * np.where(weights > 0, 0.5, 1.0)) * scaled
        result: np.ndarray = octaves.clip(-MOST_OCTAVES, MOST_OCTAVES).astype(np.int64)[self._class]
        return result

    def _slots(self, value: Value) -> np.ndarray:
        return self.start[value] + np.arange(value.shape[1])

    def _ties(self, node: Node) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pairs of channels that share a scale through the node; none where it commutes with no scale."""
        name, attrs, data = node.op.name, node.attrs, [v for v in node.inputs if v.const is None]
        if len(node.outputs) != 1 or any(v not in self.start for v in [*data, node.output]):
            return
        y = self._slots(node.output)
        alike = all(v.shape[1] == node.output.shape[1] for v in data)
        if name in UNARY or (name in SUMS and len(data) == 2 and attrs.get("activation", "none") in HOMOGENEOUS):
            yield from ((self._slots(v), y) for v in data if alike)
        elif name == "mul" and attrs["activation"] in HOMOGENEOUS and (carrier := _carrier(node)) is not None:
            yield self._slots(carrier), y
        elif name == "concat" and len(data) == len(node.inputs):
            at = 0
            for value in data:
                size = value.shape[1] if attrs["dim"] == 1 else 0
                yield self._slots(value), y[at : at + size] if size else y
                at += size
        elif name == "slice":
            x = self._slots(data[0])
            yield x[attrs["start"] : attrs["end"] : attrs["step"]] if attrs["dim"] == 1 else x, y
        elif name == "gather_channels":
            yield self._slots(data[0])[list(attrs["channels"])], y
        elif ((name == "pad" and attrs["value"] == 0) or name in ("mean", "reshape")) and alike and _keeps(node):
            yield self._slots(data[0]), y


def _keeps(node: Node) -> bool:
    """Whether channel i of the result is made of channel i of the operand alone."""
    x, y = node.inputs[0], node.output
    if node.op.name == "mean":
        return set(node.attrs["dims"]) <= {2, 3} and len(x.shape) == 4
    return x.shape[:2] == y.shape[:2]


def _carrier(node: Node) -> Value | None:
    """The operand of a product whose scale the product takes; the other keeps its own."""
    data = [v for v in node.inputs if v.const is None and v.shape[1] == node.output.shape[1]]
    if len(node.data_inputs) == 2 and node.inputs[0] is node.inputs[1]:
        return None
    return max(data, key=lambda v: v.numel, default=None)


def _gate(node: Node) -> Value:
    carrier = _carrier(node)
    return next(v for v in node.inputs if v is not carrier)


def _is_free(node: Node) -> bool:
    """Whether the node's weights can take up scales of what it reads and makes. Weights of several nodes cannot: they
    would part, and the file would hold each.
    """
    if RANKS.get(node.op.name) != len(node.inputs[0].shape) or node.attrs["activation"] not in HOMOGENEOUS:
        return False
    return len(node.inputs[1].uses) == 1


def _columns(node: Node) -> np.ndarray:
    """The largest weight that reads each input channel."""
    weight = node.inputs[1].const
    assert weight is not None
    groups = node.attrs.get("groups", 1)
    largest = weight.abs().flatten(2).amax(2) if weight.dim() > 2 else weight.abs()
    columns: np.ndarray = largest.reshape(groups, -1, weight.shape[1]).amax(1).flatten().numpy()
    return columns


def _classes(count: int, ties: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """For each channel the least channel that ties connect it with."""
    a, b = (np.concatenate(side) for side in zip(*ties, strict=True))
    found = np.arange(count)
    while True:
        least = np.minimum(found[a], found[b])
        before = found.copy()
        np.minimum.at(found, found[a], least)
        np.minimum.at(found, found[b], least)
        found = found[found]
        if np.array_equal(found, before):
            return found


def _reached(graph: Graph, channels: _Channels, samples: Iterable[Sequence[Tensor]]) -> Reached:
    reached: Reached = {}
    names = {v.name for v in channels.start}

    def tap(value: Value, tensor: Tensor) -> None:
        if value.name in names:
            largest = tensor.abs().amax([d for d in range(tensor.dim()) if d != 1]).numpy()
            reached[value.name] = np.maximum(reached.get(value.name, 0.0), largest)

    interpreter = Interpreter(without_tail(graph))
    for sample in samples:
        interpreter.run(sample, tap)
    return reached


def _rescale(graph: Graph, node: Node, made: np.ndarray, read: np.ndarray) -> None:
    """Weights and bias that make channels 2^made times as large from ones that are 2^read times as large; either may
    be empty: as large as they were.
    """
    weight, bias = (_tensor(v) for v in node.inputs[1:])
    if made.any():
        rows = torch.from_numpy(made)
        weight, bias = torch.ldexp(weight, rows.reshape(-1, *[1] * (weight.dim() - 1))), torch.ldexp(bias, rows)
    if read.any():
        groups = node.attrs.get("groups", 1)
        columns = torch.from_numpy(read).reshape(groups, 1, -1).expand(-1, len(weight) // groups, -1)
        weight = torch.ldexp(weight, -columns.reshape(len(weight), -1, *[1] * (weight.dim() - 2)))
    for index, tensor in ((1, weight), (2, bias)):
        if tensor is not node.inputs[index].const:
            graph.set_input(node, index, graph.constant(node.inputs[index].name, tensor))


def _tensor(value: Value) -> Tensor:
    assert value.const is not None
    return value.const
