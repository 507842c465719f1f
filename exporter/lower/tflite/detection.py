"""Detection post-processing: TFLite's own operator, which every TFLite runtime carries as a custom op."""

from __future__ import annotations

from exporter.ir.graph import Node
from exporter.lower.tflite.emit import Emitter, spelling


@spelling
def detection_postprocess(e: Emitter, node: Node) -> None:
    """TFLite_Detection_PostProcess. Source of its options: tflite/kernels/detection_postprocess.cc.

    Without `use_regular_nms` it keeps `max_classes_per_detection` classes of each anchor and runs NMS across classes.
    """
    codes, scores, anchors = node.inputs
    attrs = node.attrs
    options = {
        "max_detections": attrs["max_detections"],
        "max_classes_per_detection": 1,
        "detections_per_class": attrs["max_detections"],
        "use_regular_nms": attrs["per_class"],
        "nms_score_threshold": attrs["score_threshold"],
        "nms_iou_threshold": attrs["iou_threshold"],
        "num_classes": scores.shape[2],
        **{f"{side}_scale": 1.0 for side in "yxhw"},
    }
    operands = [e.plain(codes), e.plain(scores), e.constant(anchors)]
    e.file.custom_op("TFLite_Detection_PostProcess", operands, [e.result(v) for v in node.outputs], options)
