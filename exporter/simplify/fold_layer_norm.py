"""The weight and bias of a layer_norm disappear into the layers behind it."""

from __future__ import annotations

import torch

from exporter.ir.graph import Graph, Node
from exporter.simplify.affine import scaled


@torch.no_grad()
def fold_layer_norms(graph: Graph) -> None:
    """`linear(layer_norm(x, w, b), v, c) -> linear(layer_norm(x), v * w, c + v b)`, so too for convolutions.

    Exact, and in int8 the activation in between is as even as it can be: the differences between channels are in the
    weights, which have a scale each. Linear layers read the last dim, convolutions without padding dim 1.
    Declines: any other reader, grouped convolutions, norms over more than that dim.
    """
    for norm in [n for n in graph.nodes if n.op.name == "layer_norm"]:
        readers = graph.consumers(norm.output)
        if norm.output in graph.outputs or not readers or not all(_reads_channels(norm, reader) for reader in readers):
            continue
        _, weight, bias = norm.inputs
        assert weight.const is not None
        assert bias.const is not None
        if bool((weight.const == 1).all()) and not bool(bias.const.any()):
            continue
        for reader in readers:
            _into(graph, reader, weight.const.double(), bias.const.double())
        graph.set_input(norm, 1, graph.constant(weight.name, torch.ones_like(weight.const)))
        graph.set_input(norm, 2, graph.constant(bias.name, torch.zeros_like(bias.const)))


def _reads_channels(norm: Node, reader: Node) -> bool:
    rank = len(norm.output.shape)
    if reader.inputs[0] is not norm.output or norm.output in reader.inputs[1:]:
        return False
    if reader.op.name == "linear":
        return bool(norm.attrs["dims"] == (rank - 1,))
    plain = reader.op.name == "conv2d" and reader.attrs["groups"] == 1 and not any(reader.attrs["padding"])
    return plain and bool(norm.attrs["dims"] == (1,))


def _into(graph: Graph, layer: Node, factor: torch.Tensor, shift: torch.Tensor) -> None:
    _, weight, bias = layer.inputs
    assert weight.const is not None
    assert bias.const is not None
    moved = scaled(weight.const, shift, 1).double().flatten(1).sum(1)
    graph.set_input(layer, 1, graph.constant(weight.name, scaled(weight.const, factor, 1)))
    graph.set_input(layer, 2, graph.constant(bias.name, (bias.const.double() + moved).float()))
