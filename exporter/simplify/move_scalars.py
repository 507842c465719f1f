"""Bring scalar factors to where they cost least."""

from __future__ import annotations

import torch

from exporter.ir.graph import Graph, Node, Value
from exporter.simplify.affine import read_affine

COMMUTES = {"max_pool2d": "positive", "resize_nearest": "any", "resize_bilinear": "any", "avg_pool2d": "any",
            "matmul": "any", "mean": "any", "reshape": "any", "transpose": "any", "slice": "any"}  # fmt: skip
"""Ops f with f(c * x) = c * f(x): for any c, or for c > 0 only."""


def move_scalars(graph: Graph) -> None:
    """`mul(f(x), c) -> f(mul(x, c))` for f that commute with scaling (a matmul in its first operand), while nobody else
    reads f(x).

    BiFPN multiplies each resampled feature by its fusion weight; in front of the resampling the factor folds into
    the 1x1 convolution there, or at least meets the smaller tensor.
    Declines: no convolution at the end and x larger than f(x) (a factor before a max-pool costs more).
    """
    for node in list(graph.nodes):
        affine = read_affine(node)
        if affine is None or node.op.name != "mul" or affine.scalar is None:
            continue
        path = _path_up(graph, affine.x, affine.scalar)
        if not path:
            continue
        target = path[-1].inputs[0]
        if not _starts_at_convolution(graph, target) and target.numel >= node.output.numel:
            continue
        constant = next(v for v in node.inputs if v.const is not None)
        if constant.shape:  # [1, 1, 1, 1] would raise the rank of the target
            constant = graph.constant(constant.name, torch.tensor(affine.scalar, dtype=torch.float32))
        graph.replace_all_uses(node.output, affine.x)
        graph.remove(node)
        moved = graph.emit(
            "mul", [target, constant], name=node.output.name, source=node.source, at=path[-1], activation="none"
        )
        graph.set_input(path[-1], 0, moved)


def _path_up(graph: Graph, value: Value, factor: float) -> list[Node]:
    """The chain of commuting nodes above `value` that nobody else reads, nearest first."""
    path: list[Node] = []
    while (producer := value.producer) is not None and graph.only_consumer(value) is not None:
        rule = COMMUTES.get(producer.op.name)
        if rule is None or (rule == "positive" and factor <= 0):
            break
        path.append(producer)
        value = producer.inputs[0]
    return path


def _starts_at_convolution(graph: Graph, value: Value) -> bool:
    """Whether the chain of mul and add per channel above `value` starts at a convolution of its own."""
    while graph.only_consumer(value) is not None and value.producer is not None:
        if value.producer.op.name in ("conv2d", "conv_transpose2d", "linear"):
            return True
        affine = read_affine(value.producer)
        if affine is None:
            return False
        value = affine.x
    return False
