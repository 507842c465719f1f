"""Attention in int8: softmax(scores) @ values without the codes of a softmax."""

from __future__ import annotations

from collections.abc import Container

from exporter.ir.graph import Graph, Node, Value
from exporter.quantize.legalize import LONGEST_MEAN
from exporter.quantize.replacement import Ranges, Replacement

LEAST = -6.5
"""exp of this is less than half a step of int8 between 0 and 1: further below the largest score, weights are 0."""
STEP = 1032 * 2.0**-18
"""A scale of the float16 grid whose inverse, 254.016, is nearly whole: elu + 1 shifts codes without rounding."""
REACH = 254.9 * STEP
"""A range that gets this scale."""


def split_attention(graph: Graph, floats: Container[Node] = ()) -> Ranges:
    """`matmul(softmax(s), v)` -> integer ops, in place. Returns the ranges of values that calibration cannot know.

    With T columns: e = exp(s - max(s)), q = rsqrt(mean(e)), w = e·q, y = (w @ v)·q·(2 - mean(w)·q)/T. Half of the
    normalisation stands ahead of the product and half behind it, so that even rows and rows of one large weight both
    keep their codes; the last factor is one Newton step for 1/mean(e), from what w came out as. exp is elu + 1.

    TFLite's SOFTMAX has the step 1/256 by specification, which leaves a row of 197 even weights with codes of 1. SNR
    of the product, T = 197, scores N(0, σ), values N(0, 1) with an offset of N(0, 0.3) per channel, all int8 (with
    SOFTMAX in brackets): σ = 0.1 38.0 dB (14.7), 0.3 37.9 (23.8), 1 35.7 (24.2), 2 29.8 (26.1), 4 30.9 (31.3). What
    limits it is the int8 of the scores, and then of w. XNNPACK runs all but the rsqrt: 0.12 ms for 3 heads of 197,
    SOFTMAX 1.17 (one thread of an AVX2 machine, LiteRT 2.3).
    Declines a softmax that anything else reads, `floats` and the float tail, and rows of more than XNNPACK's mean can
    add.
    """
    forced: Ranges = {}
    tail = graph.tail()
    for node in [n for n in graph.nodes if n.op.name == "matmul" and n not in tail and n not in floats]:
        soft = node.inputs[0].producer
        if soft is None or soft.op.name != "softmax" or soft in floats or graph.only_consumer(soft.output) is not node:
            continue
        if soft.attrs["dim"] == len(soft.output.shape) - 1 and soft.output.shape[-1] <= LONGEST_MEAN:
            _attend(Replacement(graph, node, forced), soft)
    graph.prune()
    return forced


def _attend(r: Replacement, soft: Node) -> None:
    scores, (_, values) = soft.inputs[0], r.node.inputs
    last, count = (len(scores.shape) - 1,), scores.shape[-1]

    def mean(x: Value) -> Value:
        return r.emit("mean", x, dims=last, keepdim=True)

    below = r.emit("sub", scores, r.emit("amax", scores, dims=last, keepdim=True), within=(LEAST, 0.0))
    weights = r.emit("add", r.emit("elu", below, within=(-REACH, 0.0)), r.number(1.0), within=(0.0, REACH))
    half = r.emit("rsqrt", mean(weights))
    weights = r.emit("mul", weights, half)
    product = r.emit("matmul", weights, values, transpose_b=r.node.attrs["transpose_b"])
    whole = r.emit("mul", mean(weights), half, within=(0.0, 2.0))
    error = r.emit("mul", whole, r.number(-1 / count), within=(-2.0 / count, 0.0))
    rest = r.emit("add", error, r.number(2 / count), within=(0.0, 2.0 / count))
    r.replace(r.emit("mul", product, r.emit("mul", half, rest)))
