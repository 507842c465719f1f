"""ReLU and ReLU6 become part of the op that makes their input."""

from __future__ import annotations

from exporter.ir.graph import Graph

FUSING = frozenset({"conv2d", "conv_transpose2d", "linear", "add", "sub", "mul"})


def fuse_activations(graph: Graph) -> None:
    """`relu(conv2d(x)) -> conv2d(x, activation=relu)`, and so for relu6, linear, add, sub, mul.

    Every format clamps on the way out, and the clamped output spends its 256 codes on the range that is left.
    Declines: a result that somebody else reads, an op that has an activation already.
    """
    for node in list(graph.nodes):
        if node.op.name not in ("relu", "relu6"):
            continue
        producer = node.inputs[0].producer
        if producer is None or producer.op.name not in FUSING or producer.attrs["activation"] != "none":
            continue
        if graph.only_consumer(node.inputs[0]) is not node:
            continue
        producer.attrs["activation"] = node.op.name
        graph.replace_all_uses(node.output, producer.output)
        graph.remove(node)
