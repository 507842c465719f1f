"""Explicit pads become the padding of the op behind them."""

from __future__ import annotations

import math

from exporter.ir.graph import Graph, Node

MERGED_VALUE = {"conv2d": 0.0, "max_pool2d": -math.inf}


def merge_pads(graph: Graph) -> None:
    """`conv2d(pad(x, 0)) -> conv2d(x, more padding)` and `max_pool2d(pad(x, -inf)) -> max_pool2d(x, more padding)`.

    TF-SAME models pad before every stride-2 op; a quantiser must never see -inf (DESIGN.md §3, trap 4).
    Declines: pads of batch or channels, other values, a max-pool whose own padding meets a zero pad.
    """
    for node in list(graph.nodes):
        if node.op.name != "pad":
            continue
        before, after, value = node.attrs["before"], node.attrs["after"], node.attrs["value"]
        if len(before) != 4 or any(before[:2]) or any(after[:2]) or min(*before, *after) < 0:
            continue
        for reader in graph.consumers(node.output):
            if MERGED_VALUE.get(reader.op.name) == value and reader.inputs[0] is node.output:
                _merge(graph, reader, node)
        if not node.output.uses and node.output not in graph.outputs:
            graph.remove(node)


def _merge(graph: Graph, reader: Node, pad: Node) -> None:
    before, after = pad.attrs["before"], pad.attrs["after"]
    top, bottom, left, right = reader.attrs["padding"]
    reader.attrs["padding"] = (top + before[2], bottom + after[2], left + before[3], right + after[3])
    graph.set_input(reader, 0, pad.inputs[0])
