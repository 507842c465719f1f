"""Reading outputs: boxes from every ending of a detector, joints, classes, areas; nothing where nothing is known."""

from __future__ import annotations

import pytest
import torch
from small_detector import SIZE, make
from torch import Tensor, nn

from exporter.build.postprocess import with_postprocess
from exporter.quantize.preprocess import Preprocess
from exporter.verify.comparison import reference_outputs
from exporter.verify.gallery import MOST_SHOWN, Gallery
from exporter.verify.marks import LEAST_SCORE, MOST_BOXES, Areas, Boxes, Classes, Joints, Marks, marks_reader
from exporter.verify.metrics.protocol import Model

X = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 4 - 2


def model(*outputs: Tensor, module: nn.Module | None = None) -> Model:
    return Model(Preprocess(size=(SIZE, SIZE)), (tuple(X.shape),), tuple(tuple(o.shape) for o in outputs), (), module)


def read(task: str, *outputs: Tensor, module: nn.Module | None = None) -> Marks:
    reader = marks_reader(task, model(*outputs, module=module))
    assert reader is not None
    return reader(outputs)


def boxes(postprocess: str, **settings: float) -> Boxes:
    module = with_postprocess(make(), postprocess, **settings)
    found = read("detection", *reference_outputs(module, (X,))[0], module=module)
    assert isinstance(found, Boxes)
    return found


def test_raw_heads_and_decoded_boxes_tell_the_same():
    raw = boxes("raw")
    assert 0 < len(raw.found) <= MOST_BOXES
    assert raw == boxes("decoded")


def test_finished_detections_are_taken_as_they_are():
    """Its suppression lets one class an anchor through: what remains is among the boxes of the decoded ones."""
    finished = boxes("nms", iou_threshold=0.5, score_threshold=0.05)
    assert finished.found
    assert {box.corners for box in finished.found} & {box.corners for box in boxes("decoded").found}


def test_boxes_are_parts_of_the_input_best_first():
    found = boxes("raw").found
    assert [box.score for box in found] == sorted((box.score for box in found), reverse=True)
    assert all(box.score >= LEAST_SCORE for box in found)
    assert all(0 <= x0 <= x1 <= 1 and 0 <= y0 <= y1 <= 1 for x0, y0, x1, y1 in (box.corners for box in found))


def test_joints_are_the_peaks_that_are_high_enough():
    heatmaps = torch.zeros(1, 3, 16, 8)
    heatmaps[0, 0, 4, 2], heatmaps[0, 1, 12, 6] = 0.9, 0.1
    found = read("keypoints", heatmaps)
    assert isinstance(found, Joints)
    assert found.count == 3
    (joint,) = found.found
    assert joint.number == 0
    assert joint.place == (2 / 8, 4 / 16)
    assert joint.score == pytest.approx(0.9)


def test_classes_from_logits_and_from_probabilities():
    logits = torch.tensor([[0.5, 3.0, -1.0, 2.0]])
    from_logits, from_shares = read("", logits), read("", logits.softmax(1))
    assert isinstance(from_logits, Classes)
    assert isinstance(from_shares, Classes)
    assert [c.number for c in from_logits.found] == [1, 3, 0]
    assert [c.score for c in from_logits.found] == pytest.approx([c.score for c in from_shares.found])


def test_the_best_class_of_every_place():
    logits = torch.zeros(1, 3, 2, 2)
    logits[0, 2, 0, 1] = logits[0, 1, 1, 0] = 5.0
    found = read("segmentation", logits)
    assert isinstance(found, Areas)
    assert found.numbers.tolist() == [[0, 2], [1, 0]]


@pytest.mark.parametrize(
    "outputs", [(torch.zeros(1, 8, 4, 4),), (torch.zeros(1, 5), torch.zeros(1, 5)), (torch.zeros(1, 1),)]
)
def test_unknown_outputs_are_not_read(outputs):
    assert marks_reader("", model(*outputs)) is None
    assert marks_reader("features", model(*outputs)) is None


def test_a_gallery_keeps_a_few_pictures_spread_over_all():
    gallery = Gallery(lambda outputs: Areas(outputs[0].numpy()), [f"p{i}" for i in range(10)], "there")
    for number in range(10):
        for by in ("PyTorch", "tflite int8"):
            gallery.add(number, (X + number,), by, [torch.tensor([[number]])])
            gallery.add(number, (X - 9,), by, [torch.tensor([[99]])])  # a second person in it
    assert [shown.name for shown in gallery.shown] == ["p0", "p2", "p5", "p7"]
    assert len(gallery.shown) == MOST_SHOWN
    assert all(list(shown.found) == ["PyTorch", "tflite int8"] for shown in gallery.shown)
    last = gallery.shown[-1]
    assert torch.equal(last.picture, X[0] + 7)
    assert isinstance(last.found["PyTorch"], Areas)
    assert last.found["PyTorch"].numbers.item() == 7
