"""From a detector's outputs to boxes of the picture, for every way of resizing and every kind of output."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from small_detector import CELLS, make

from exporter.build.postprocess import with_postprocess
from exporter.errors import UsageError
from exporter.ir.detection import decode
from exporter.quantize.preprocess import Preprocess
from exporter.verify.metrics.boxes import in_picture, reader, suppressed

PICTURES = [(200, 100), (100, 200), (64, 64), (333, 121)]


def marked(width, height, box):
    """A black picture with a white box x, y, width, height."""
    pixels = np.zeros((height, width, 3), np.uint8)
    x, y, w, h = box
    pixels[y : y + h, x : x + w] = 255
    return Image.fromarray(pixels)


@pytest.mark.parametrize("size", [(96, 64), (64, 96)], ids=str)
@pytest.mark.parametrize("resize", ["stretch", "letterbox", "crop"])
@pytest.mark.parametrize("picture", PICTURES, ids=str)
def test_a_box_seen_in_the_input_is_found_where_it_lies_in_the_picture(picture, resize, size):
    width, height = picture
    box = (int(0.42 * width), int(0.4 * height), int(0.2 * width), int(0.25 * height))
    preprocess = Preprocess(size=size, resize=resize, mean=(0, 0, 0), std=(1, 1, 1))
    x = preprocess.apply(marked(*picture, box))[0] > 0.5
    rows, columns = (torch.where(x.any(axis))[0] for axis in (1, 0))
    seen = [rows[0] / size[0], columns[0] / size[1], (rows[-1] + 1) / size[0], (columns[-1] + 1) / size[1]]
    (found,) = in_picture(np.array([seen]), size, preprocess.view(*picture))
    pixel = [picture[axis] / preprocess._target(*picture)[axis] for axis in (0, 1)]  # of the input, in the picture
    assert np.abs(np.array(found) - box).max() <= 1.01 * max(pixel)


def test_points_go_to_the_input_and_back():
    view = Preprocess(size=(64, 96), resize="crop", crop_fraction=0.9).view(333, 121)
    assert view.to_picture(*view.to_input(150.0, 60.0)) == pytest.approx((150.0, 60.0))


def test_letterboxed_by_hand():
    """200 x 100 into 64 x 64: 64 x 32 at the top left, 0.32 of the size."""
    view = Preprocess(size=(64, 64), resize="letterbox").view(200, 100)
    assert in_picture(np.array([[0.25, 0.25, 0.5, 0.75]]), (64, 64), view) == [pytest.approx([50, 50, 100, 50])]


def test_boxes_are_cut_at_the_edges_of_the_picture_not_of_the_input():
    view = Preprocess(size=(64, 64), resize="letterbox").view(200, 100)
    assert in_picture(np.array([[-0.5, -0.5, 1.0, 1.0]]), (64, 64), view) == [pytest.approx([0, 0, 200, 100])]


def test_heads_decoded_boxes_and_finished_detections_tell_the_same():
    """The finished ones stop at their threshold, and are not cut at the input's edges before suppression."""
    torch.manual_seed(1)
    module, x = make(), torch.rand(1, 3, 48, 48)
    module.box_head.weight.zero_()
    module.box_head.bias.copy_(torch.tensor([0.0, 0.0, -0.8, -0.8]))  # inside their cells, so that nothing is cut off
    settings = {"score_threshold": 0.3, "iou_threshold": 0.5, "max_detections": 100, "per_class": True}
    found = []
    for kind in ("raw", "decoded", "nms"):
        model = with_postprocess(module, kind, **(settings if kind == "nms" else {}))
        read, classes = reader(model, (48, 48))
        assert classes == 3
        boxes, ids, scores = read(model(x))
        kept = scores >= 0.3
        found.append((boxes[kept].clamp(0, 1), ids[kept].long(), scores[kept]))
    for other in found[1:]:
        assert len(other[2]) == len(found[0][2]) > 3
        torch.testing.assert_close(other[2], found[0][2])
    torch.testing.assert_close(found[0][0], found[1][0])


def test_a_box_with_two_classes_is_two_candidates():
    boxes = torch.tensor([[0.1, 0.1, 0.5, 0.5], [0.1, 0.1, 0.5, 0.52]])
    found, ids, scores = suppressed(boxes, torch.tensor([[0.9, 0.8], [0.7, 0.85]]))
    assert (ids.tolist(), scores.tolist()) == ([0, 1], pytest.approx([0.9, 0.85]))
    assert torch.equal(found, boxes)


def test_anchors_of_the_small_detector_come_back_as_boxes():
    module = make()
    codes = torch.zeros(1, CELLS * CELLS, 4)
    assert decode(codes, module.priors())[0, 0].tolist() == pytest.approx([-1 / 12, -1 / 12, 3 / 12, 3 / 12])


def test_another_model_is_refused():
    with pytest.raises(UsageError, match="boxes judge a detector"):
        reader(torch.nn.Identity(), (48, 48))
