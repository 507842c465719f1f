"""Multiply-accumulates: what an inference costs, and how much of it works on integers."""

from __future__ import annotations

from exporter.ir.graph import Graph, Node


def node_macs(node: Node) -> int:
    """Of a convolution or a linear layer in one inference; 0 of any other op."""
    if node.op.name not in ("conv2d", "linear", "conv_transpose2d"):
        return 0
    weight = node.inputs[1]
    if node.op.name == "conv_transpose2d":
        return node.inputs[0].numel * (weight.numel // weight.shape[1])
    return node.output.numel * (weight.numel // weight.shape[0])


def graph_macs(graph: Graph) -> int:
    """Of all convolutions and linear layers in one inference."""
    return sum(map(node_macs, graph.nodes))


def integer_macs(graph: Graph) -> float | None:
    """Share of the multiply-accumulates that work on integers; None where there are none."""
    total = graph_macs(graph)
    integer = sum(node_macs(node) for node in graph.nodes if node.outputs[0].quant is not None)
    return integer / total if total else None
