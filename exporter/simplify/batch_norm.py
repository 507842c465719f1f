"""BatchNorm is a mul and an add per channel."""

from __future__ import annotations

import torch

from exporter.ir.graph import Graph, Value


@torch.no_grad()
def batch_norm_to_affine(graph: Graph) -> None:
    """`batch_norm(x) -> add(mul(x, s), t)`, s = weight / sqrt(var + eps), t = bias - mean * s, in float64.

    `fold_affine` then folds both into the convolution before them, *per use*: a convolution that several
    BatchNorms read (EfficientDet's heads, 80 of D0's 214) gets one folded copy each (DESIGN.md §3, trap 1).
    """
    for node in [n for n in graph.nodes if n.op.name == "batch_norm"]:
        x, *constants = node.inputs
        weight, bias, mean, var = (_double(v) for v in constants)
        scale = weight / torch.sqrt(var + node.attrs["eps"])
        shape = [1, -1] + [1] * (len(x.shape) - 2)
        y = x
        for op, tensor in (("mul", scale), ("add", bias - mean * scale)):
            constant = graph.constant(f"{node.source.module}/{op}", tensor.float().reshape(shape))
            y = graph.emit(op, [y, constant], source=node.source, at=node, activation="none")
        graph.replace_all_uses(node.output, y)
        graph.remove(node)


def _double(value: Value) -> torch.Tensor:
    assert value.const is not None
    return value.const.double()
