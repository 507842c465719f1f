"""Our own torch ops (`edge_export::…`), which wrappers of a model call."""

from __future__ import annotations

from exporter.capture.aten.table import Builder, Unsupported, aten
from exporter.ir.graph import Value


@aten("float_tail")
def float_tail(b: Builder, x: Value) -> Value:
    return b.emit("float_tail", x)


@aten("detection_postprocess")
def detection_postprocess(
    b: Builder, codes: Value, scores: Value, anchors: Value,
    score_threshold: float, iou_threshold: float, max_detections: int, per_class: bool,
) -> list[Value]:  # fmt: skip
    if anchors.const is None:
        raise Unsupported("the anchors are computed from the input")
    return b.emit_all(
        "detection_postprocess", codes, scores, anchors, score_threshold=score_threshold, iou_threshold=iou_threshold,
        max_detections=max_detections, per_class=per_class,
    )  # fmt: skip
