"""Parallel linear branches become one convolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from exporter.ir.graph import Graph, Node, Value
from exporter.simplify.affine import read_affine
from exporter.simplify.sums import is_sum, outer_sum, terms


@dataclass(frozen=True, eq=False)
class _Branch:
    """`term` is a convolution of `x` with this weight [O,I/groups,kh,kw] and bias [O], float64. An identity path,
    scaled and shifted per channel or not, is a 1x1 convolution.
    """

    term: Value
    x: Value
    weight: Tensor
    bias: Tensor
    attrs: dict[str, Any]

    @property
    def offset(self) -> tuple[int, int]:
        """Pixels between an output and the first that the kernel sees."""
        top, _, left, _ = self.attrs["padding"]
        return top, left


@torch.no_grad()
def merge_branches(graph: Graph) -> None:
    """RepVGG (arXiv:2101.03697, section 3.3), MobileOne, ACNet: `conv3x3(x) + conv1x1(x) + s * x + t -> conv3x3(x)`.

    Kernels are added where they see the same pixels: the smaller one is padded with zeros to the larger, an identity
    path becomes a one in the kernel's centre. Computed in float64; exact but for the order of sums.
    Declines: convolutions of other inputs, strides, groups or dilations, with an activation, that see pixels which the
    largest kernel does not, or whose result somebody else reads; sums without a convolution; a plain `x` beside a
    convolution that is not depthwise, as in a residual block: its ones would set the scale of the int8 weights (26.6 dB
    instead of 37.6 for 64 channels of random weights; depthwise, 36.6 either way).
    """
    for node in list(graph.nodes):
        alive = node in graph.nodes and is_sum(node) and outer_sum(graph, node) is None
        if alive and node.attrs["activation"] == "none":
            _merge_in(graph, node)


def _merge_in(graph: Graph, root: Node) -> None:
    parts = terms(graph, root)
    convolutions = [b for term in parts if (b := _convolution(graph, term, root)) is not None]
    identities = [b for term in parts if (b := _identity(graph, term)) is not None]
    for base in sorted(convolutions, key=lambda b: -b.weight[0, 0].numel()):
        branches = [base, *(b for b in convolutions if b is not base)]
        branches += [i for b in identities if (i := _as_1x1(b, base)) is not None]
        fitting = [(b, at) for b in branches if (at := _place(b, base)) is not None]
        if len(fitting) > 1:
            merged = _emit(graph, root, base, fitting)
            left = [merged, *(t for t in parts if all(t is not b.term for b, _ in fitting))]
            _sum(graph, root, left)
            return


def _convolution(graph: Graph, term: Value, root: Node) -> _Branch | None:
    conv = term.producer
    if conv is None or conv.op.name != "conv2d" or conv.attrs["activation"] != "none":
        return None
    if graph.only_consumer(term) is None or len(term.uses) > 1 or term.shape != root.output.shape:
        return None
    x, weight, bias = conv.inputs
    assert weight.const is not None
    assert bias.const is not None
    return _Branch(term, x, weight.const.double(), bias.const.double(), conv.attrs)


def _identity(graph: Graph, term: Value) -> _Branch | None:
    """`x * s + t` per channel, from `term` upwards; weight and bias hold s and t until the groups are known."""
    if len(term.shape) != 4 or term.const is not None:
        return None
    x, scale, shift = term, torch.ones(term.shape[1]).double(), torch.zeros(term.shape[1]).double()
    while x.producer is not None and (step := read_affine(x.producer)) is not None and step.dim == 1:
        if graph.only_consumer(x) is None or len(x.uses) > 1:
            break
        if step.is_mul:
            scale = scale * step.vector(len(scale))
        else:
            shift = shift + scale * step.vector(len(scale))
        x = step.x
    return _Branch(term, x, scale, shift, {})


def _as_1x1(identity: _Branch, base: _Branch) -> _Branch | None:
    channels, per_group = len(identity.bias), base.weight.shape[1]
    if identity.term is identity.x and per_group > 1:
        return None
    if identity.x is not base.x or base.attrs["stride"] != (1, 1) or base.term.shape != identity.term.shape:
        return None
    weight = torch.zeros(channels, per_group, 1, 1, dtype=torch.float64)
    weight[torch.arange(channels), torch.arange(channels) % per_group, 0, 0] = identity.weight
    return _Branch(identity.term, identity.x, weight, identity.bias, {**base.attrs, "padding": (0, 0, 0, 0)})


def _place(branch: _Branch, base: _Branch) -> tuple[int, int] | None:
    """Where the kernel lies in that of `base`; None where it does not."""
    if branch.x is not base.x or any(branch.attrs[k] != base.attrs[k] for k in ("stride", "groups")):
        return None
    place = []
    for axis, (mine, base_offset) in enumerate(zip(branch.offset, base.offset, strict=True)):
        size, room, dilation = branch.weight.shape[2 + axis], base.weight.shape[2 + axis], base.attrs["dilation"][axis]
        at, rest = divmod(base_offset - mine, dilation)
        if rest or at < 0 or at + size > room or (size > 1 and branch.attrs["dilation"][axis] != dilation):
            return None
        place.append(at)
    return place[0], place[1]


def _emit(graph: Graph, root: Node, base: _Branch, fitting: list[tuple[_Branch, tuple[int, int]]]) -> Value:
    weight, bias = torch.zeros_like(base.weight), torch.zeros_like(base.bias)
    for branch, (row, column) in fitting:
        height, width = branch.weight.shape[2:]
        weight[:, :, row : row + height, column : column + width] += branch.weight
        bias += branch.bias
    name = base.term.producer.source.module if base.term.producer else graph.name
    constants = [graph.constant(f"{name}/{role}", t.float()) for role, t in (("weight", weight), ("bias", bias))]
    return graph.emit("conv2d", [base.x, *constants], source=root.source, at=root, **base.attrs)


def _sum(graph: Graph, root: Node, left: list[Value]) -> None:
    total = left[0]
    for term in left[1:]:
        total = graph.emit("add", [total, term], source=root.source, at=root, activation="none")
    graph.replace_all_uses(root.output, total)
    graph.prune()
