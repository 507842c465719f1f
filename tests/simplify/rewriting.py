"""What the pass tests share: run chosen passes on a captured module, and hold the result against eager PyTorch."""

from __future__ import annotations

from collections.abc import Callable

from parity import FLOAT_SNR, Model, captured, eager, run_float, snr
from torch import Tensor

from exporter.ir.check import check
from exporter.ir.graph import Graph


def rewrite(model: Model, *inputs: Tensor, by: list[Callable[[Graph], None]]) -> Graph:
    """The graph after the passes `by`; it still computes what `model` computes."""
    graph = captured(model, *inputs)
    for run in by:
        run(graph)
        graph.prune()
        check(graph, after=run.__name__)
    same(graph, model, *inputs)
    return graph


def same(graph: Graph, model: Model, *inputs: Tensor) -> None:
    """`graph` computes what `model` computes, 120 dB or better."""
    for result, expected in zip(run_float(graph, *inputs), eager(model, *inputs), strict=True):
        assert snr(result, expected) >= FLOAT_SNR


def ops(graph: Graph) -> list[str]:
    """Names of the ops, in order."""
    return [node.op.name for node in graph.nodes]
