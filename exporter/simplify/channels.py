"""Where every channel comes from, and in which order it is best stored: what `route_channels` decides by.

A *move* (slice or concat of channels, gather_channels) computes nothing. A *channelwise* op treats every channel alike
and apart (ReLU, depthwise convolution, pool, resize, add): its operands and result share one order of channels, and
such values form a *stream*. A *dense* op (convolution of one group, linear) takes and gives its channels in any order,
since its weights can be stored in that order. Everything else wants the model's own order.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from exporter.ir.graph import Graph, Node, Value

UNARY = frozenset(
    {
        "relu", "relu6", "clamp", "leaky_relu", "sigmoid", "tanh", "silu", "gelu", "hard_swish", "exp", "sqrt", "rsqrt",
        "max_pool2d", "avg_pool2d", "resize_nearest", "resize_bilinear",
    }
)  # fmt: skip
BINARY = frozenset({"add", "sub", "mul", "div", "maximum"})
SHORTEST, MOST = 8, 3
"""Channels that a copied range of one tensor should hold on average, and ranges that it may have: beyond, one
convolution over all of it is no slower (Lite-HRNet-18 on LiteRT: 4 ranges of 10 or 20 channels against one gather).
"""

Order = tuple[int, ...]
"""Stored channel i is the model's channel order[i]."""
Origin = list[tuple[Value, int]]
"""For each channel of a moved value: the tensor that it is copied from, and the channel there. Tensors are computed
values, and moved ones that an op reads: these must be made in any case.
"""


def is_move(node: Node) -> bool:
    """A slice or concat of the channels of images, or gather_channels."""
    if node.op.name == "gather_channels":
        return True
    images = all(len(v.shape) == 4 and v.const is None for v in node.inputs)
    return node.op.name in ("slice", "concat") and node.attrs["dim"] == 1 and images


def is_dense(node: Node) -> bool:
    """Whether the weights can absorb any order of input and output channels."""
    if node.op.name == "linear":
        return len(node.inputs[0].shape) == 2
    return node.op.name == "conv2d" and node.attrs["groups"] == 1


def is_channelwise(node: Node) -> bool:
    """Whether the op treats every channel alike and apart, or with parameters of its own."""
    x, y = node.inputs[0], node.output
    if node.op.name in UNARY:
        return len(x.shape) == 4
    if node.op.name in BINARY:
        return len(y.shape) == 4 and all(len(v.shape) == 4 or v.const is not None for v in node.inputs)
    if node.op.name == "conv2d":
        return node.attrs["groups"] == x.shape[1] == y.shape[1]
    if node.op.name == "pad":
        return len(x.shape) == 4 and node.attrs["before"][1] == node.attrs["after"][1] == 0
    if node.op.name == "mean":
        return len(x.shape) == 4 and set(node.attrs["dims"]) <= {2, 3}
    return node.op.name == "reshape" and len(x.shape) == 4 and x.shape[:2] == y.shape[:2]


def carried(node: Node) -> list[Value]:
    """Operands of a channelwise op that have a channel for each of the result's."""
    return [v for v in node.data_inputs if v.shape[1] == node.output.shape[1]]


@dataclass(eq=False)
class Stream:
    """Values that share one order of channels."""

    channels: int
    fixed: bool = False
    """The model's own order is wanted."""
    sources: list[Value] = field(default_factory=list)
    """Moved values that channelwise ops of this stream read."""
    into: Stream | None = None
    """The stream that this one was joined into."""

    @property
    def root(self) -> Stream:
        """The stream that stands for all that were joined."""
        return self.into.root if self.into else self

    def join(self, other: Stream) -> None:
        """Take in what `other` knows; both are roots."""
        if other is not self:
            self.fixed |= other.fixed
            self.sources += other.sources
            other.into = self

    @property
    def free(self) -> bool:
        """Made by dense ops alone: any order is to be had for nothing."""
        return not self.fixed and not self.sources


class Channels:
    """Origins of all moved values, streams of all others, and the order of each stream."""

    def __init__(self, graph: Graph) -> None:
        self._origin: dict[int, Origin] = {}
        self._stream: dict[int, Stream] = {}
        self._order: dict[Stream, Order] = {}
        self._arranged: dict[Value, Order] = {}
        self._wanted: dict[Value, list[Stream | None]] = {}
        """Moved values that must exist as tensors, in order, and the streams that read them (None: a dense op)."""
        self._tidied: dict[Value, bool] = {}
        for value in graph.inputs:
            self._new_stream(value, fixed=True)
        for node in graph.nodes:
            self._enter(node)
        for value in graph.outputs:
            self._fix(value)
        self._parts = {moved: _by_tensor(self._origin[id(moved)]) for moved in self._wanted}
        self._readers: dict[Value, list[Value]] = {}
        """The wanted values that each tensor has channels in, in order."""
        for moved, parts in self._parts.items():
            for value in parts:
                self._readers.setdefault(value, []).append(moved)

    def is_moved(self, value: Value) -> bool:
        """Whether only moves made `value`."""
        return id(value) in self._origin

    def order(self, value: Value) -> Order:
        """How the channels of a tensor are stored."""
        if self.is_moved(value):
            return self.arranged(value)
        return self._order_of(self._stream[id(value)].root) if id(value) in self._stream else own_order(value)

    def arranged(self, moved: Value) -> Order:
        """The order in which a moved value takes the fewest copies: range by range, value by value."""
        if moved not in self._arranged:
            result: list[int] = []
            for value, entries in self._parts[moved].items():
                places = self.places(value)
                ranged = sorted(entries, key=lambda entry: places[entry[1]])
                in_shreds = torn([places[channel] for _, channel in ranged])
                result += [index for index, _ in (entries if in_shreds else ranged)]
            self._arranged[moved] = tuple(result)
        return self._arranged[moved]

    def pieces(self, moved: Value, order: Order) -> list[tuple[Value, list[int]]]:
        """Runs of channels that come from one value each: the value, and the places where it stores them."""
        result: list[tuple[Value, list[int]]] = []
        places = {value: self.places(value) for value in self._parts[moved]}
        for index in order:
            value, channel = self._origin[id(moved)][index]
            if not result or result[-1][0] is not value:
                result.append((value, []))
            result[-1][1].append(places[value][channel])
        return result

    def places(self, value: Value) -> Order:
        """Where each channel of a tensor is stored, in the copy that moves read."""
        return own_order(value) if self.is_tidied(value) else inverse(self.order(value))

    def is_tidied(self, value: Value) -> bool:
        """Whether moves should read a copy of `value` in the model's order: as it is stored, some find it torn."""
        if value not in self._tidied:
            self._tidied[value] = False
            places = inverse(self.order(value))
            reads = [[channel for _, channel in self._parts[moved][value]] for moved in self._readers.get(value, [])]
            self._tidied[value] = any(
                torn(sorted(places[c] for c in read)) and not torn(sorted(read)) for read in reads
            )
        return self._tidied[value]

    # --- analysis -----------------------------------------------------------------------------------------------------
    def _enter(self, node: Node) -> None:
        if is_move(node):
            self._origin[id(node.output)] = self._moved(node)
            return
        channelwise, dense = is_channelwise(node), is_dense(node)
        stream = self._new_stream(node.output, fixed=not channelwise and not dense)
        for value in node.data_inputs:
            follows = channelwise and value in carried(node)
            if self.is_moved(value):
                self._wanted.setdefault(value, []).append(stream if follows else None)
                if follows:
                    stream.root.sources.append(value)
            elif follows:
                self._stream[id(value)].root.join(stream.root)
            elif not dense:
                self._fix(value)

    def _moved(self, node: Node) -> Origin:
        parts: Origin = []
        for value in node.inputs:
            copied = self.is_moved(value) and all(map(is_move, value.uses))
            parts += self._origin[id(value)] if copied else [(value, channel) for channel in range(value.shape[1])]
        if node.op.name == "slice":
            return parts[node.attrs["start"] : node.attrs["end"] : node.attrs["step"]]
        return [parts[i] for i in node.attrs["channels"]] if node.op.name == "gather_channels" else parts

    def _new_stream(self, value: Value, fixed: bool) -> Stream:
        channels = value.shape[1] if len(value.shape) > 1 else 1
        self._stream[id(value)] = stream = Stream(channels, fixed)
        return stream

    def _fix(self, value: Value) -> None:
        if self.is_moved(value):
            self._wanted.setdefault(value, [])
        elif id(value) in self._stream:
            self._stream[id(value)].root.fixed = True

    # --- orders -------------------------------------------------------------------------------------------------------
    def _order_of(self, stream: Stream) -> Order:
        if stream not in self._order:
            self._order[stream] = tuple(range(stream.channels))  # what a stream that depends on itself sees
            if stream.sources and not stream.fixed:
                self._order[stream] = self.arranged(min(stream.sources, key=self._is_free))
            elif stream.free:
                self._order[stream] = self._by_reader(stream)
        return self._order[stream]

    def _is_free(self, moved: Value) -> bool:
        return all(s is not None and s.free for s in map(self._stream_of, self._parts[moved]))

    def _stream_of(self, value: Value) -> Stream | None:
        """The stream of a computed value."""
        return self._stream[id(value)].root if id(value) in self._stream else None

    def _by_reader(self, stream: Stream) -> Order:
        """The channels that one reader wants lie side by side, in the order in which it wants them."""
        rank: dict[int, tuple[int, int]] = {}
        position = {moved: i for i, moved in enumerate(self._wanted)}
        values = [value for value in self._readers if self._stream_of(value) is stream]
        for moved in sorted({m for value in values for m in self._readers[value]}, key=lambda m: position[m]):
            into = next((s for s in self._wanted[moved] if s is not None), None)
            place = inverse(self._order_of(into.root)) if into else range(len(self._origin[id(moved)]))
            for value in values:
                for index, channel in self._parts[moved].get(value, []):
                    rank.setdefault(channel, (position[moved], place[index]))
        return tuple(sorted(range(stream.channels), key=lambda c: rank.get(c, (len(position), c))))


def own_order(value: Value) -> Order:
    """The model's order of the channels of `value`."""
    return tuple(range(value.shape[1] if len(value.shape) > 1 else 1))


def inverse(order: Order) -> Order:
    """The place of each channel."""
    places = [0] * len(order)
    for place, channel in enumerate(order):
        places[channel] = place
    return tuple(places)


def runs(places: list[int]) -> list[tuple[int, int]]:
    """Maximal ranges [start, end) of places that follow each other."""
    result: list[tuple[int, int]] = []
    for place in places:
        if result and result[-1][1] == place:
            result[-1] = (result[-1][0], place + 1)
        else:
            result.append((place, place + 1))
    return result


def torn(places: list[int]) -> bool:
    """Whether copying these places range by range costs more than one convolution."""
    found = runs(places)
    return len(found) > 1 and (len(found) > MOST or len(places) < SHORTEST * len(found))


def _by_tensor(origin: Origin) -> dict[Value, list[tuple[int, int]]]:
    """(index, channel) of the channels that come from each tensor."""
    result: dict[Value, list[tuple[int, int]]] = {}
    for index, (value, channel) in enumerate(origin):
        result.setdefault(value, []).append((index, channel))
    return result
