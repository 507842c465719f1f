"""mul and add per channel disappear into a neighbouring convolution."""

from __future__ import annotations

import torch

from exporter.ir.graph import Graph, Node
from exporter.simplify.affine import Affine, read_affine, scaled


@torch.no_grad()
def fold_affine(graph: Graph) -> None:
    """Cases, each exact in real arithmetic (new constants are computed in float64):

    1. `mul(mul(x, c), d) -> mul(x, c * d)`, `add(add(x, c), d) -> add(x, c + d)`
    2. `mul(conv(x, w, b), c) -> conv(x, c * w, c * b)`; `add(conv(x, w, b), c) -> conv(x, w, b + c)`
    3. `conv(mul(x, c)) -> conv(x)` with scaled input channels; `conv(add(x, c))` likewise when nothing is padded

    Weights that several convolutions share get one folded copy each (per use); the shared constant is not touched.
    Declines: a convolution with an activation, an intermediate that somebody else reads (a copy of the convolution
    would cost more than the step), groups other than 1 or depthwise in case 3.
    """
    changed = True
    while changed:
        folds = [_fold(graph, affine) for node in list(graph.nodes) if (affine := read_affine(node))]
        changed = any(folds)


def _fold(graph: Graph, affine: Affine) -> bool:
    if affine.node not in graph.nodes:
        return False
    producer = affine.x.producer
    if producer is not None:
        previous = read_affine(producer)
        alone = graph.only_consumer(affine.x) is affine.node
        if previous and alone and previous.is_mul == affine.is_mul and _alike(previous, affine):
            _merge(graph, previous, affine)
            return True
        if _absorbs(producer, affine) and alone:
            _into_producer(graph, producer, affine)
            return True
    reader = graph.only_consumer(affine.node.output)
    if reader is not None and reader.op.name in ("conv2d", "linear") and reader.inputs[0] is affine.node.output:
        return _into_reader(graph, affine, reader)
    return False


def _alike(first: Affine, second: Affine) -> bool:
    """Whether two steps vary along one dim, if at all."""
    return first.dim == second.dim or first.scalar is not None or second.scalar is not None


def _absorbs(conv: Node, affine: Affine) -> bool:
    """Whether output channels of `conv` are what the affine step scales."""
    if conv.op.name not in ("conv2d", "conv_transpose2d", "linear") or conv.attrs["activation"] != "none":
        return False
    return affine.scalar is not None or affine.dim == _channels(conv)


def _channels(conv: Node) -> int:
    """The dim of channels in the input and the output: 1, or the last of a linear layer's."""
    return 1 if len(conv.inputs[1].shape) == 4 else len(conv.output.shape) - 1


def _merge(graph: Graph, first: Affine, second: Affine) -> None:
    is_mul = second.is_mul
    factor = first.factor * second.factor if is_mul else first.factor + second.factor
    rank = len(second.x.shape)
    dim = second.dim if first.scalar is not None else first.dim
    tensor = factor.float().reshape(() if factor.numel() == 1 else [-1 if d == dim else 1 for d in range(rank)])
    constant = graph.constant(f"{second.node.output.name}/factor", tensor)
    merged = graph.emit(
        "mul" if is_mul else "add", [first.x, constant], source=second.node.source, at=second.node,
        activation="none",
    )  # fmt: skip
    graph.replace_all_uses(second.node.output, merged)
    graph.remove(second.node)
    graph.remove(first.node)


def _into_producer(graph: Graph, conv: Node, affine: Affine) -> None:
    x, weight, bias = conv.inputs
    assert weight.const is not None
    assert bias.const is not None
    factor = affine.vector(weight.shape[0])
    if affine.is_mul:
        weight = graph.constant(weight.name, scaled(weight.const, factor, 0))
        new_bias = bias.const.double() * factor
    else:
        new_bias = bias.const.double() + factor
    operands = [x, weight, graph.constant(bias.name, new_bias.float())]
    folded = graph.emit(conv.op.name, operands, source=conv.source, at=affine.node, **conv.attrs)
    graph.replace_all_uses(affine.node.output, folded)
    graph.remove(affine.node)
    graph.remove(conv)


def _into_reader(graph: Graph, affine: Affine, conv: Node) -> bool:
    _, weight, bias = conv.inputs
    assert weight.const is not None
    assert bias.const is not None
    groups, is_mul = conv.attrs.get("groups", 1), affine.node.op.name == "mul"
    if affine.scalar is None and affine.dim != _channels(conv):
        return False
    if not is_mul and any(conv.attrs.get("padding", ())):
        return False
    inputs = weight.shape[1] * groups
    factor = affine.vector(inputs)
    if groups == 1:
        per_weight, dim = factor, 1
    elif weight.shape[1] == 1:
        per_weight, dim = factor.repeat_interleave(weight.shape[0] // groups), 0
    else:
        return False
    scaled_weight = scaled(weight.const, per_weight, dim)
    if is_mul:
        graph.set_input(conv, 1, graph.constant(weight.name, scaled_weight))
    else:
        shift = scaled(weight.const, per_weight, dim).double().flatten(1).sum(1)
        graph.set_input(conv, 2, graph.constant(bias.name, (bias.const.double() + shift).float()))
    graph.set_input(conv, 0, affine.x)
    graph.remove(affine.node)
    return True
