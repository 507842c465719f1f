"""Detectors in Core ML: a program, and Core ML's own suppression behind it, on the reference executor."""

from __future__ import annotations

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.converters.mil.frontend.milproto import load as milproto
from parity import image, simplified
from small_detector import make
from torch import Tensor, nn

from exporter.build.postprocess import detection_postprocess, float_tail, with_postprocess
from exporter.capture import capture
from exporter.ir.detection import detect
from exporter.ir.run import Interpreter
from exporter.lower.coreml import CoreML
from exporter.lower.facts import Facts
from exporter.quantize import quantize
from exporter.quantize.calibrate import calibrate
from exporter.simplify import simplify
from exporter.verify.detections import SAME, SIMILAR, DetectionMeter
from exporter.verify.runtimes.mil_reference import MilReference

SIDE, CLASSES = 6, 3
GRID = torch.stack(torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij"), -1).reshape(-1, 2)
ANCHORS = torch.cat([(GRID + 0.5) / SIDE, torch.tensor([[2 / SIDE, 1 / SIDE]]).repeat(SIDE * SIDE, 1)], 1)
"""Twice as high as a cell, so that an exchange of x and y shows."""
SETTINGS = [
    pytest.param((0.3, 0.5, 20, False), id="across-classes"),
    pytest.param((0.3, 0.5, 20, True), id="per-class"),
    pytest.param((0.1, 0.2, 5, False), id="across-classes-few"),
    pytest.param((0.1, 0.2, 5, True), id="per-class-few"),
    pytest.param((0.6, 1.0, 40, False), id="nothing-falls"),
    pytest.param((1.5, 0.5, 20, False), id="nothing-found"),
]


class Head(nn.Module):
    """Codes [1, A, 4] and scores [1, A, C] of an input that holds them: [1, A, 4 + C]."""

    def __init__(self, score: float, iou: float, most: int, per_class: bool) -> None:
        super().__init__()
        self.register_buffer("anchors", ANCHORS)
        self.settings = (score, iou, most, per_class)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        codes, scores = float_tail(x[..., :4]), float_tail(x[..., 4:])
        names = ("boxes", "classes", "scores", "count")
        return dict(zip(names, detection_postprocess(codes, scores, self.anchors, *self.settings), strict=True))


def heads(seed: int = 1) -> Tensor:
    """Numbers of float16; scores k/128, no two of them equal."""
    codes = image(1, len(ANCHORS), 4, low=-0.5, high=0.5, seed=seed).half().float()
    order = torch.randperm(len(ANCHORS) * CLASSES, generator=torch.Generator().manual_seed(seed))
    return torch.cat([codes, (order.reshape(1, len(ANCHORS), CLASSES) + 10) / 128], -1)


def best_alone(scores: Tensor) -> Tensor:
    """0 for every class but a box's first best."""
    return scores * nn.functional.one_hot(scores.argmax(-1), scores.shape[-1])


@pytest.fixture
def written(tmp_path):
    def write(graph, precision="float32", target=None, **facts):
        path = tmp_path / "net.mlpackage"
        target = target or CoreML()
        assert target.unsupported(graph) == []
        target.write(graph, path, Facts("net", precision, **facts))
        return path

    return write


def found(path, x: Tensor) -> list[Tensor]:
    """Boxes, classes, scores and number, as our NMS gives them."""
    result = MilReference(path).run([x.numpy()])
    confidence, coordinates = (torch.from_numpy(result[name]) for name in ("confidence", "coordinates"))
    centre, sides = coordinates[:, :2].flip(1), coordinates[:, 2:].flip(1)
    boxes = torch.cat([centre - sides / 2, centre + sides / 2], 1)
    scores, classes = confidence.max(1)
    return [boxes[None], classes[None].float(), scores[None], torch.tensor([float(len(boxes))])]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_finds_what_our_nms_finds(written, settings, seed, precision):
    """Of boxes that stand for their best class alone; the tail is float32 in every precision."""
    x = heads(seed)
    graph = simplified(Head(*settings), x)
    *result, count = found(written(graph, precision), x)
    *expected, number = detect(x[..., :4], best_alone(x[..., 4:]), ANCHORS, *settings)
    assert int(count) == int(number)
    for got, want in zip(result, expected, strict=True):
        torch.testing.assert_close(got, want[:, : int(number)], rtol=0, atol=1e-6)


def test_second_class_of_a_box_is_not_found(written):
    """The one difference: our NMS counts every class of a box for itself where it works within classes."""
    x = torch.zeros(1, len(ANCHORS), 4 + CLASSES)
    x[0, 7, 4:] = torch.tensor([0.9, 0.8, 0.1])
    settings = (0.5, 0.5, 10, True)
    graph = simplified(Head(*settings), x)
    _, classes, scores, count = found(written(graph), x)
    assert (int(count), float(classes[0, 0]), float(scores[0, 0])) == (1, 0.0, pytest.approx(0.9))
    assert int(detect(x[..., :4], x[..., 4:], ANCHORS, *settings)[3]) == 2


def test_confidences_of_a_box_add_up_to_one_at_most(written):
    """Sigmoids of many classes, saturated and equal."""
    x = torch.zeros(1, len(ANCHORS), 4 + CLASSES)
    x[..., 4:] = 1.0
    result = MilReference(written(simplified(Head(0.5, 0.5, 40, False), x))).run([x.numpy()])
    assert result["confidence"].sum(1).max() == 1
    assert (result["confidence"] > 0).sum(1).max() == 1


def test_thresholds_are_inputs_with_defaults(written):
    x = heads()
    runtime = MilReference(written(simplified(Head(0.3, 0.5, 40, False), x)))
    confident = runtime.run([x.numpy()])["confidence"].max(1)
    given = {"x": x.numpy(), "confidenceThreshold": np.array(0.8), "iouThreshold": np.array(1.0)}
    narrower = runtime.run(given)["confidence"].max(1)
    assert confident.min() >= 0.3
    assert narrower.min() >= 0.8
    assert len(narrower) == int((x[..., 4:].amax(-1) >= 0.8).sum())


def test_pipeline_is_what_vision_understands(written):
    """Names, types and order of Turi Create's detectors; weights, labels and metadata in their places."""
    x = heads()
    graph = simplified(Head(0.3, 0.45, 20, True), x)
    path = written(graph, labels=("cat", "dog", "bird"), author="someone", description="a detector")
    spec = ct.models.MLModel(str(path), skip_model_load=True).get_spec()
    assert spec.WhichOneof("Type") == "pipeline"
    program, suppression = spec.pipeline.models
    assert (program.WhichOneof("Type"), suppression.WhichOneof("Type")) == ("mlProgram", "nonMaximumSuppression")
    assert len({spec.specificationVersion, program.specificationVersion, suppression.specificationVersion}) == 1
    inputs = [(f.name, f.type.WhichOneof("Type"), f.type.isOptional) for f in spec.description.input]
    assert inputs == [
        ("x", "multiArrayType", False),
        ("iouThreshold", "doubleType", True),
        ("confidenceThreshold", "doubleType", True),
    ]
    assert [f.name for f in program.description.output] == ["raw_confidence", "raw_coordinates"]
    assert list(suppression.description.input[:2]) == list(program.description.output)
    assert [f.name for f in suppression.description.input[2:]] == ["iouThreshold", "confidenceThreshold"]
    assert list(spec.description.output) == list(suppression.description.output)
    found = [(f.name, [(r.lowerBound, r.upperBound) for r in f.type.multiArrayType.shapeRange.sizeRanges])
             for f in spec.description.output]  # fmt: skip
    assert found == [("confidence", [(0, 20), (3, 3)]), ("coordinates", [(0, 20), (4, 4)])]
    nms = suppression.nonMaximumSuppression
    assert list(nms.stringClassLabels.vector) == ["cat", "dog", "bird"]
    assert (nms.iouThreshold, nms.confidenceThreshold, nms.pickTop.perClass) == (0.45, 0.3, True)
    assert (spec.description.metadata.author, spec.description.metadata.shortDescription) == ("someone", "a detector")
    assert not program.description.HasField("metadata")


@pytest.mark.parametrize("min_os", [15, 16, 17, 18])
def test_program_type_checks(written, min_os):
    """Read by coremltools' own loader, which infers every type."""
    path = written(simplified(Head(0.3, 0.5, 20, False), heads()), "float16", CoreML(min_os))
    spec = ct.models.MLModel(str(path), skip_model_load=True).get_spec().pipeline.models[0]
    weights = str(path / "Data/com.apple.CoreML/weights")
    program = milproto.load(spec, spec.specificationVersion, file_weights_dir=weights)
    shapes = {output.name: (output.shape, output.dtype.__name__) for output in program.functions["main"].outputs}
    assert shapes == {"raw_confidence": ((36, 3), "fp32"), "raw_coordinates": ((36, 4), "fp32")}


def test_labels_of_another_number_are_numbers(written):
    path = written(simplified(Head(0.3, 0.5, 20, False), heads()), labels=("cat", "dog"))
    (_, suppression) = ct.models.MLModel(str(path), skip_model_load=True).get_spec().pipeline.models
    assert list(suppression.nonMaximumSuppression.stringClassLabels.vector) == ["0", "1", "2"]


def test_an_output_beside_the_detections_stays(written):
    class Beside(Head):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"mean": x.mean((1, 2)), **super().forward(x)}

    x = heads()
    result = MilReference(written(simplified(Beside(0.3, 0.5, 20, False), x))).run([x.numpy()])
    assert set(result) == {"confidence", "coordinates", "mean"}
    np.testing.assert_allclose(result["mean"], x.mean((1, 2)).numpy(), rtol=1e-6)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", SAME), ("float16", SIMILAR), ("int8", SIMILAR)])
def test_small_detector(written, precision, tolerance):
    """Weights that were set by hand, so that scores differ; int8 against the integer interpreter's detections."""
    module = with_postprocess(make(), "nms", score_threshold=0.3, max_detections=30)
    x = image(1, 3, 48, 48)
    graph = simplify(capture(module, (x,), name="net", output_names=module.output_names, inside="detector"))
    if precision == "int8":
        quantize(graph, calibrate(graph, [(x,)], "minmax"))
    meter = DetectionMeter("coreml", "interpreter", tolerance)
    meter.add(Interpreter(graph).run([x]), found(written(graph, precision), x))
    figures = meter.result()
    assert figures.expected > 10
    assert figures.matched >= 0.9 * figures.expected
    assert abs(figures.found - figures.expected) <= 0.1 * figures.expected


class Read(Head):
    def forward(self, x):
        boxes, *_ = super().forward(x).values()
        return boxes * 2


class Named(Head):
    def forward(self, confidence):
        return super().forward(confidence)


REFUSED = {
    "two-pictures": (Head, 2, "takes one picture"),
    "read-inside": (Read, 1, "nothing in it can read"),
    "name-taken": (Named, 1, "confidence is a name of the detector's own"),
}


@pytest.mark.parametrize(("head", "pictures", "said"), REFUSED.values(), ids=REFUSED)
def test_what_core_ml_cannot_end_in(head, pictures, said):
    graph = simplified(head(0.3, 0.5, 20, False), heads().repeat(pictures, 1, 1))
    ((node, reason),) = CoreML().unsupported(graph)
    assert node.op.name == "detection_postprocess"
    assert said in reason
