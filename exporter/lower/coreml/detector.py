"""A detector as Vision knows it: a pipeline of the program and Core ML's own non-maximum suppression.

The program's first two outputs (detection.py) are scores [A, C], of which only the best class of a box is not 0, and
boxes [A, 4], centre x, centre y, width, height as parts of the input. The pipeline gives `confidence` [N, C] and
`coordinates` [N, 4] of what is left, best first, and Vision a VNRecognizedObjectObservation for each.

Names and shape of the pipeline: Turi Create's exporter of object detectors. Meaning: coremltools
mlmodel/format/NonMaximumSuppression.proto.
"""

from __future__ import annotations

from exporter.ir.graph import Graph, Node
from exporter.lower.coreml.schema import Model
from exporter.lower.facts import Facts

RAW_CONFIDENCE, RAW_COORDINATES = "raw_confidence", "raw_coordinates"
CONFIDENCE, COORDINATES = "confidence", "coordinates"
IOU_THRESHOLD, CONFIDENCE_THRESHOLD = "iouThreshold", "confidenceThreshold"


def detection_node(graph: Graph) -> Node | None:
    """The graph's detection_postprocess, if it has one."""
    return next((node for node in graph.nodes if node.op.name == "detection_postprocess"), None)


def with_suppression(program: Model.Model, node: Node, facts: Facts) -> Model.Model:
    """The pipeline. Outputs of the program that are not the detector's stay outputs of the pipeline."""
    attrs = node.attrs
    most, classes = attrs["max_detections"], node.inputs[1].shape[-1]
    scores, boxes, *others = program.description.output
    found = [
        _list(CONFIDENCE, scores, most, "confidence of every box and class, 0 but for its best class"),
        _list(COORDINATES, boxes, most, "centre x, centre y, width, height as parts of the picture"),
    ]
    thresholds = [
        _number(IOU_THRESHOLD, f"boxes of a larger IoU with a better one fall (default {attrs['iou_threshold']:g})"),
        _number(CONFIDENCE_THRESHOLD, f"least confidence of a box (default {attrs['score_threshold']:g})"),
    ]

    suppression = Model.Model(specificationVersion=program.specificationVersion)
    suppression.description.input.extend([scores, boxes, *thresholds])
    suppression.description.output.extend(found)
    nms = suppression.nonMaximumSuppression
    nms.pickTop.perClass = attrs["per_class"]
    nms.stringClassLabels.vector.extend(facts.labels if len(facts.labels) == classes else map(str, range(classes)))
    nms.iouThreshold, nms.confidenceThreshold = attrs["iou_threshold"], attrs["score_threshold"]
    nms.confidenceInputFeatureName, nms.coordinatesInputFeatureName = scores.name, boxes.name
    nms.iouThresholdInputFeatureName, nms.confidenceThresholdInputFeatureName = IOU_THRESHOLD, CONFIDENCE_THRESHOLD
    nms.confidenceOutputFeatureName, nms.coordinatesOutputFeatureName = CONFIDENCE, COORDINATES

    pipeline = Model.Model(specificationVersion=program.specificationVersion)
    pipeline.description.input.extend(program.description.input)
    for threshold in thresholds:
        threshold.type.isOptional = True
        pipeline.description.input.append(threshold)
    pipeline.description.output.extend([*found, *others])
    pipeline.description.metadata.CopyFrom(program.description.metadata)
    program.description.ClearField("metadata")
    pipeline.pipeline.models.extend([program, suppression])
    return pipeline


def _list(name: str, raw: Model.FeatureDescription, most: int, text: str) -> Model.FeatureDescription:
    """As many rows as are found, at most `most`."""
    feature = Model.FeatureDescription(name=name, shortDescription=text)
    array = feature.type.multiArrayType
    array.dataType = raw.type.multiArrayType.dataType
    width = raw.type.multiArrayType.shape[-1]
    array.shapeRange.sizeRanges.add(lowerBound=0, upperBound=most)
    array.shapeRange.sizeRanges.add(lowerBound=width, upperBound=width)
    return feature


def _number(name: str, text: str) -> Model.FeatureDescription:
    feature = Model.FeatureDescription(name=name, shortDescription=text)
    feature.type.doubleType.SetInParent()
    return feature
