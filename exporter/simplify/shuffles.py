"""Channel shuffles, whatever their spelling, become one op."""

from __future__ import annotations

import torch

from exporter.ir.graph import Graph, Node, Value
from exporter.ir.run import step

MOVES = frozenset({"reshape", "transpose"})


def recognise_shuffles(graph: Graph) -> None:
    """`reshape(transpose(reshape(x, [N,g,C/g,H,W]), (0,2,1,3,4)), [N,C,H,W]) -> gather_channels(x, channels)`.

    Any chain of reshapes and transposes counts that ends in the shape in which it began and moves whole channels, be it
    written with view, permute, flatten or in rank 4: the chain runs once on the numbers of the elements.
    A chain that moves nothing goes.
    Declines: chains that move pixels or samples.
    """
    for node in reversed(list(graph.nodes)):
        if node.op.name not in MOVES or len(node.output.shape) != 4:
            continue
        chain = _chain_above(node)
        if chain is None or (channels := _moved_channels(chain)) is None:
            continue
        moved = (x := chain[0].inputs[0])
        if channels != tuple(range(x.shape[1])):
            moved = graph.emit("gather_channels", [x], source=node.source, at=node, channels=channels)
        graph.replace_all_uses(node.output, moved)


def _chain_above(node: Node) -> list[Node] | None:
    """The moves that lead to `node` from the nearest value of its own shape, first to last."""
    chain = [node]
    while chain[0].inputs[0].shape != node.output.shape:
        producer = chain[0].inputs[0].producer
        if producer is None or producer.op.name not in MOVES:
            return None
        chain.insert(0, producer)
    return chain


def _moved_channels(chain: list[Node]) -> tuple[int, ...] | None:
    """Which input channel each output channel holds, when the chain moves whole channels."""
    x: Value = chain[0].inputs[0]
    numbers = torch.arange(x.numel).reshape(x.shape)
    moved = numbers
    for node in chain:
        (moved,) = step(node, [moved])
    channels = moved[0, :, 0, 0] // (x.shape[2] * x.shape[3])
    stays_in_sample = bool((channels < x.shape[1]).all())
    return tuple(channels.tolist()) if stays_in_sample and torch.equal(moved, numbers[:, channels]) else None
