"""Detection post-processing in ONNX's words: decoding, NonMaxSuppression, and rows of a fixed number."""

from __future__ import annotations

import numpy as np
from onnx import helper

from exporter.ir.graph import Node
from exporter.lower.onnx.emit import Emitter, spelling


@spelling
def detection_postprocess(e: Emitter, node: Node) -> None:
    """The rules of `exporter.ir.detection.detect`, decoded in float32.

    NonMaxSuppression gives rows (picture, class, anchor), class by class, best score first, the earlier anchor first
    where scores are equal; TopK keeps that order among equal scores.
    """
    scores, attrs = node.inputs[1], node.attrs
    most = attrs["max_detections"]
    corners = _corners(e, node)
    by_anchor = e.read(scores)
    if attrs["per_class"]:
        ranked = e.between("Transpose", node, [by_anchor], perm=(0, 2, 1))
    else:
        ranked = e.between("ReduceMax", node, [by_anchor, e.integers(2)], keepdims=1)
        ranked = e.between("Transpose", node, [ranked], perm=(0, 2, 1))
    limits = [e.integers(most), e.number(attrs["iou_threshold"]), e.number(_below(attrs["score_threshold"]))]
    picked = e.between("NonMaxSuppression", node, [corners, ranked, *limits])
    picked = _best(e, node, picked, ranked, most)

    anchor = e.between("Gather", node, [picked, e.constant(np.array(2), "int64(2)")], axis=1)
    box = e.between("Gather", node, [e.between("Squeeze", node, [corners, e.integers(0)]), anchor], axis=0)
    score = e.between("GatherND", node, [ranked, picked])
    if attrs["per_class"]:
        label = e.between("Gather", node, [picked, e.constant(np.array(1), "int64(1)")], axis=1)
    else:
        labels = e.between("ArgMax", node, [by_anchor], axis=2, keepdims=0)
        label = e.between("Gather", node, [e.between("Squeeze", node, [labels, e.integers(0)]), anchor], axis=0)
    found = e.between("Shape", node, [picked], start=0, end=1)
    missing = e.between("Sub", node, [e.integers(most), found])

    boxes, classes, values, count = (e.name(value) for value in node.outputs)
    behind = e.between("Concat", node, [e.integers(0), missing], axis=0)
    behind_rows = e.between("Concat", node, [e.integers(0), e.integers(0), missing, e.integers(0)], axis=0)
    _filled(e, node, box, behind_rows, (1, most, 4), boxes)
    _filled(e, node, e.between("Cast", node, [label], to=1), behind, (1, most), classes)
    _filled(e, node, score, behind, (1, most), values)
    e.add("Cast", [found], count, to=1)


def _corners(e: Emitter, node: Node) -> str:
    """Boxes y0, x0, y1, x1."""
    codes, _, anchors = node.inputs
    assert anchors.const is not None
    prior = anchors.const.numpy()
    parts = [(e.integers(a), e.integers(a + 2), e.integers(2)) for a in (0, 2)]
    shift, stretch = (e.between("Slice", node, [e.read(codes), *part]) for part in parts)
    side, middle = e.constant(prior[:, 2:], f"{anchors.name}/side"), e.constant(prior[:, :2], f"{anchors.name}/centre")
    half = e.constant(prior[:, 2:] * np.float32(0.5), f"{anchors.name}/half")
    centre = e.between("Add", node, [e.between("Mul", node, [shift, side]), middle])
    extent = e.between("Mul", node, [e.between("Exp", node, [stretch]), half])
    low, high = e.between("Sub", node, [centre, extent]), e.between("Add", node, [centre, extent])
    return e.between("Concat", node, [low, high], axis=2)


def _best(e: Emitter, node: Node, picked: str, ranked: str, most: int) -> str:
    """The `most` best rows over all classes, or all where there are fewer."""
    if not node.attrs["per_class"]:
        return picked
    available = e.between("Shape", node, [picked], start=0, end=1)
    rows = e.between("Min", node, [available, e.integers(most)])
    scores, order = e.between("GatherND", node, [ranked, picked]), e.fresh(f"{picked}/order")
    e.nodes.append(helper.make_node("TopK", [scores, rows], [e.fresh(f"{order}/scores"), order], name=order))
    return e.between("Gather", node, [picked, order], axis=0)


def _filled(e: Emitter, node: Node, rows: str, pads: str, shape: tuple[int, ...], output: str) -> None:
    """Zeros behind the rows found, up to the fixed number."""
    e.add("Reshape", [e.between("Pad", node, [rows, pads]), e.integers(*shape)], output)


def _below(threshold: float) -> float:
    """ONNX wants scores above its threshold, ours may equal it: the next float32 below."""
    return float(np.nextafter(np.float32(threshold), np.float32(-np.inf)))
