"""Detection post-processing up to Core ML's own non-maximum suppression, which detector.py puts behind the program.

The program computes in float32, as float tails do. With the suppression behind it, what is found is what
`exporter.ir.detection.detect` finds, but for one rule: with `per_class`, a box stands for its best class alone, as
Vision wants it, and not for every class above the threshold.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from exporter.ir.graph import Graph, Node, Value
from exporter.lower.coreml.block import Tensor
from exporter.lower.coreml.detector import (
    CONFIDENCE,
    CONFIDENCE_THRESHOLD,
    COORDINATES,
    IOU_THRESHOLD,
    RAW_CONFIDENCE,
    RAW_COORDINATES,
)
from exporter.lower.coreml.emit import Emitter, spelling
from exporter.lower.coreml.spellings import indices

XY = (1, 0, 3, 2)
"""Codes and anchors have y first, Core ML's boxes have x first."""


@spelling
def detection_postprocess(e: Emitter, node: Node) -> None:
    """Two outputs of the program: scores [A, C] of which only a box's best is not 0; centre x, y, width, height [A, 4].

    One class of those with equal scores is kept, so that a box's confidences add up to 1 at most.
    """
    codes, scores, anchors = node.inputs
    e.float = "float32"
    count, classes = scores.shape[1:]
    flat = _add(e, "reshape", "scores", (count, classes), x=e.read(scores), shape=(count, classes))
    best = _add(e, "reduce_argmax", "best", (count, 1), "int32", x=flat, axis=1, keep_dims=True)
    numbers = np.arange(classes, dtype=np.int32).reshape(1, classes)
    is_best = _add(e, "equal", "is_best", (count, classes), "bool", x=best, y=numbers)
    share = _add(e, "cast", "share", (count, classes), x=is_best, dtype="fp32")
    e.give(_add(e, "mul", RAW_CONFIDENCE, (count, classes), x=flat, y=share))
    e.give(_boxes(e, codes, anchors))


def refusal(graph: Graph, node: Node) -> str:
    """Why this detection_postprocess cannot end a Core ML model; empty where it can."""
    detected = {id(value) for value in node.outputs}
    others = [name for name, v in zip(graph.output_names, graph.outputs, strict=True) if id(v) not in detected]
    features = {CONFIDENCE, COORDINATES, IOU_THRESHOLD, CONFIDENCE_THRESHOLD}
    if node.inputs[0].shape[0] != 1:
        return "Core ML's non-maximum suppression takes one picture"
    if any(value.uses for value in node.outputs):
        return "Core ML's non-maximum suppression stands behind the program: nothing in it can read what was found"
    if sum(other.op is node.op for other in graph.nodes) > 1:
        return "a Core ML pipeline has one non-maximum suppression"
    if taken := features.intersection([*others, *(value.name for value in graph.inputs)]):
        return f"{', '.join(sorted(taken))} is a name of the detector's own inputs and outputs"
    return ""


def _boxes(e: Emitter, codes: Value, anchors: Value) -> Tensor:
    """`exporter.ir.detection.decode`, up to centre and sides."""
    assert anchors.const is not None
    count = anchors.shape[0]
    prior = anchors.const.numpy()[:, XY].astype(np.float32)
    flat = _add(e, "reshape", "codes", (count, 4), x=e.read(codes), shape=(count, 4))
    shift, stretch = (
        _add(e, "gather", name, (count, 2), x=flat, **indices(e, columns, 1))
        for name, columns in (("shift", XY[:2]), ("stretch", XY[2:]))
    )
    moved = _add(e, "mul", "moved", (count, 2), x=shift, y=prior[:, 2:])
    centre = _add(e, "add", "centre", (count, 2), x=moved, y=prior[:, :2])
    factor = _add(e, "exp", "factor", (count, 2), x=stretch)
    sides = _add(e, "mul", "sides", (count, 2), x=factor, y=prior[:, 2:])
    return _add(e, "concat", RAW_COORDINATES, (count, 4), values=[centre, sides], axis=1, interleave=False)


def _add(
    e: Emitter, kind: str, name: str, size: tuple[int, ...], dtype: str = "float32", /, **parameters: Any
) -> Tensor:
    return e.add(kind, Tensor(e.fresh(name), dtype, size), **parameters)
