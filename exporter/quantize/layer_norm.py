"""layer_norm in int8: no format has it as an integer op, so quantize writes it with ops that are."""

from __future__ import annotations

import math
from collections.abc import Container

from exporter.ir.graph import Graph, Node, Value
from exporter.quantize.legalize import LONGEST_MEAN
from exporter.quantize.replacement import Ranges, Replacement


def split_layer_norms(graph: Graph, floats: Container[Node] = ()) -> Ranges:
    """`layer_norm(x)` -> integer ops, in place, but for `floats`. Returns the ranges that calibration cannot know.

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

    [197, 192] takes 0.050 ms, of which 0.015 is the rsqrt, the one op that XNNPACK does not run; the float norm takes
    0.013 (one thread of an AVX2 machine, LiteRT 2.3).
    """
    forced: Ranges = {}
    tail = graph.tail()
    for node in [n for n in graph.nodes if n.op.name == "layer_norm" and n not in tail and n not in floats]:
        _normalise(Replacement(graph, node, forced))
    return forced


def _normalise(r: Replacement) -> None:
    x, eps = r.node.inputs[0], r.number(r.node.attrs["eps"])
    centred = r.emit("sub", x, _mean(r, x))
    variance = _mean(r, r.emit("mul", centred, centred))
    factor = r.emit("rsqrt", r.emit("add", variance, eps))
    first = r.emit("mul", centred, factor)
    left = _mean(r, r.emit("mul", first, first), within=(0.0, 2.0))
    error = r.emit("add", left, r.emit("mul", r.emit("mul", factor, factor), eps), within=(0.0, 2.0))
    half = r.emit("mul", error, r.number(-0.5), within=(-1.0, 0.0))
    y = r.emit("mul", first, r.emit("add", half, r.number(1.5), within=(0.0, 1.5)))
    r.replace(_affine(r, y))


def _mean(r: Replacement, x: Value, within: tuple[float, float] | None = None) -> Value:
    """Over the normalised dims; over a whole map in two steps where XNNPACK's sum would overflow."""
    dims = r.node.attrs["dims"]
    if dims == (1, 2, 3) and math.prod(x.shape[1:]) > LONGEST_MEAN:
        x = r.emit("mean", x, dims=(2, 3), keepdim=True, within=within)
        dims = (1,)
    return r.emit("mean", x, dims=dims, keepdim=True, within=within)


def _affine(r: Replacement, y: Value) -> Value:
    dims = r.node.attrs["dims"]
    shape = [n if d in dims else 1 for d, n in enumerate(y.shape)]
    for op, value, rest in zip(("mul", "add"), r.node.inputs[1:], (1.0, 0.0), strict=True):
        assert value.const is not None
        if not bool((value.const == rest).all()):
            y = r.emit(op, y, r.graph.constant(value.name, value.const.reshape(shape)))
    return y
