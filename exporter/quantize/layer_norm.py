"""layer_norm in int8: no format has it as an integer op, so quantize writes it with ops that are."""

from __future__ import annotations

import math

import torch

from exporter.ir.graph import Graph, Node, Value
from exporter.quantize.legalize import LONGEST_MEAN

Ranges = dict[str, tuple[float, float]]


def split_layer_norms(graph: Graph) -> Ranges:
    """`layer_norm(x)` -> integer ops, in place. Returns the ranges of values that calibration cannot know.

    c = x - mean(x), r = rsqrt(mean(c²) + eps), n = c·r, and then one Newton step for r, from what n came out as:
    y = n·(1.5 - 0.5·(mean(n²) + eps·r²)). An int8 variance has 256 steps between 0 and that of the most uneven token,
    and c² 256 up to the largest element: where tokens or channels differ, r is far off, and n tells by how much.
    A weight and a bias other than 1 and 0 follow as mul and add (simplify has moved them into the next layer where it
    could).

    SNR against PyTorch at [197, 192], all int8, with one step and without it (the best that any int8 layer_norm could
    do with the same codes of x and y in brackets): equal tokens 35.8 and 35.8 dB (37.0); token scales spread by
    exp(N(0, 0.5)) 26.1 and 24.3 (29.1), by exp(N(0, 1)) 8.4 and -1.6 (16.6); two tokens of 197 ten times as large 19.9
    and 15.3 (22.5); three channels of 192 twenty times as large 19.8 and 16.2 (23.3). What limits it is the int8 x: one
    scale for all tokens. A variance below 2^-14 (standard deviation 0.008) is below the smallest scale and lost.
    """
    forced: Ranges = {}
    tail = graph.tail()
    for node in [n for n in graph.nodes if n.op.name == "layer_norm" and n not in tail]:
        result = _LayerNorm(graph, node, forced).result()
        graph.replace_all_uses(node.output, result)
        graph.remove(node)
        result.name, node.output.name = node.output.name, result.name
    return forced


class _LayerNorm:
    """One node, and the ops that take its place."""

    def __init__(self, graph: Graph, node: Node, forced: Ranges) -> None:
        self.graph, self.node, self.forced = graph, node, forced

    def emit(self, op: str, *inputs: Value, within: tuple[float, float] | None = None, **attrs: object) -> Value:
        if op in ("add", "sub", "mul"):
            attrs["activation"] = "none"
        name = f"{self.node.output.name}/{op}"
        value = self.graph.emit(op, inputs, name=name, source=self.node.source, at=self.node, **attrs)
        if within is not None:
            self.forced[value.name] = within
        return value

    def mean(self, x: Value, within: tuple[float, float] | None = None) -> Value:
        dims = self.node.attrs["dims"]
        if dims == (1, 2, 3) and math.prod(x.shape[1:]) > LONGEST_MEAN:
            x = self.emit("mean", x, dims=(2, 3), keepdim=True, within=within)
            return self.emit("mean", x, dims=(1,), keepdim=True, within=within)
        return self.emit("mean", x, dims=self.node.attrs["dims"], keepdim=True, within=within)

    def number(self, content: float) -> Value:
        return self.graph.constant(f"{self.node.output.name}/const", torch.tensor(content))

    def result(self) -> Value:
        x, eps = self.node.inputs[0], self.number(self.node.attrs["eps"])
        centred = self.emit("sub", x, self.mean(x))
        variance = self.mean(self.emit("mul", centred, centred))
        factor = self.emit("rsqrt", self.emit("add", variance, eps))
        first = self.emit("mul", centred, factor)
        left = self.mean(self.emit("mul", first, first), within=(0.0, 2.0))
        error = self.emit("add", left, self.emit("mul", self.emit("mul", factor, factor), eps), within=(0.0, 2.0))
        half = self.emit("mul", error, self.number(-0.5), within=(-1.0, 0.0))
        step = self.emit("add", half, self.number(1.5), within=(0.0, 1.5))
        return self.affine(self.emit("mul", first, step))

    def affine(self, y: Value) -> Value:
        dims = self.node.attrs["dims"]
        shape = [n if d in dims else 1 for d, n in enumerate(y.shape)]
        for op, value, rest in zip(("mul", "add"), self.node.inputs[1:], (1.0, 0.0), strict=True):
            assert value.const is not None
            if not bool((value.const == rest).all()):
                y = self.emit(op, y, self.graph.constant(value.name, value.const.reshape(shape)))
        return y
