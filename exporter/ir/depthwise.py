"""Depthwise convolutions, and large kernels of them in pieces of rows.

XNNPACK has depthwise kernels of up to 25 taps and runs larger ones as grouped convolutions, one group a channel: 7x7
over 56x56x96 takes 34 ms in float and 104 in int8, in three pieces 5 and 7 (one thread of an AVX2 machine that others
used too, LiteRT 2.3).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from exporter.ir.graph import Node

MOST_TAPS = 25


@dataclass(frozen=True)
class Piece:
    """Kernel rows `first` to `last` (not included), and the rows of the padded input that they see."""

    first: int
    last: int
    start: int
    end: int


def is_depthwise(node: Node) -> bool:
    """Whether a conv2d has a kernel of its own for each of several channels."""
    return node.inputs[1].shape[1] == 1 and node.attrs["groups"] == node.inputs[0].shape[1] > 1


def row_pieces(node: Node) -> list[Piece]:
    """How to split a conv2d; empty when it is not depthwise, has at most 25 taps, or more than 25 in one row."""
    attrs, (rows, columns) = node.attrs, node.inputs[1].shape[2:]
    if not is_depthwise(node) or rows * columns <= MOST_TAPS or columns > MOST_TAPS:
        return []
    count = math.ceil(rows / (MOST_TAPS // columns))
    edges = [round(rows * i / count) for i in range(count + 1)]
    stride, dilation, reach = attrs["stride"][0], attrs["dilation"][0], node.output.shape[2] - 1
    return [
        Piece(first, last, first * dilation, (last - 1) * dilation + reach * stride + 1)
        for first, last in itertools.pairwise(edges)
    ]
