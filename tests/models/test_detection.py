"""Anchors, decoding and NMS, on cases small enough to check by hand."""

import math

import pytest
import torch

from exporter.build.detection import EFFDET_ASPECTS, GOOGLE_ASPECTS, anchors, centre_size, postprocess
from exporter.ir.detection import decode, intersection_over_union, nms

LEVELS = range(3, 8)


def test_there_are_49104_anchors_at_512():
    assert anchors((512, 512), LEVELS, 4.0).shape == (49_104, 4)


def test_first_anchor_is_a_square_of_four_strides_round_the_first_cell():
    y0, x0, y1, x1 = anchors((512, 512), LEVELS, 4.0)[0].tolist()
    assert (y0, x0, y1, x1) == (4 - 16, 4 - 16, 4 + 16, 4 + 16)


def test_second_anchor_is_wide():
    y0, x0, y1, x1 = anchors((512, 512), LEVELS, 4.0)[1].tolist()
    assert x1 - x0 == pytest.approx(32 * 1.4)
    assert y1 - y0 == pytest.approx(32 * 0.7)


def test_both_aspect_forms_differ_by_about_one_percent():
    effdet = anchors((512, 512), LEVELS, 4.0, aspects=EFFDET_ASPECTS)
    google = anchors((512, 512), LEVELS, 4.0, aspects=GOOGLE_ASPECTS)
    ratio = (google[1, 3] - google[1, 1]) / (effdet[1, 3] - effdet[1, 1])
    assert float(ratio) == pytest.approx(math.sqrt(2) / 1.4)
    # Google's keep the area of the square one.
    assert float((google[1, 2:] - google[1, :2]).prod()) == pytest.approx(32 * 32)


def test_odd_sizes_stretch_the_stride_so_that_cells_cover_the_image():
    boxes = anchors((100, 100), [3], 4.0)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert float(centres.max()) == pytest.approx(100 - 100 / 13 / 2, rel=1e-5)


def test_zero_codes_decode_to_the_anchors():
    boxes = anchors((64, 64), LEVELS, 4.0)
    torch.testing.assert_close(decode(torch.zeros_like(boxes), centre_size(boxes)), boxes)


def test_codes_move_by_anchor_sides_and_scale_exponentially():
    anchor = centre_size(torch.tensor([[0.0, 0.0, 10.0, 20.0]]))
    code = torch.tensor([[0.5, -0.25, math.log(2.0), math.log(0.5)]])
    # centre (5, 10) -> (10, 5); sides (10, 20) -> (20, 10)
    torch.testing.assert_close(decode(code, anchor), torch.tensor([[0.0, 0.0, 20.0, 10.0]]))


def test_iou_of_half_overlapping_boxes_is_a_third():
    box = torch.tensor([0.0, 0.0, 2.0, 2.0])
    others = torch.tensor([[0.0, 1.0, 2.0, 3.0], [5.0, 5.0, 6.0, 6.0], [0.0, 0.0, 2.0, 2.0]])
    torch.testing.assert_close(intersection_over_union(box, others), torch.tensor([1 / 3, 0.0, 1.0]))


def test_a_box_without_area_overlaps_nothing():
    point = torch.tensor([1.0, 1.0, 1.0, 1.0])
    assert intersection_over_union(point, torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 1.0, 1.0]])).tolist() == [0, 0]


def nms_case(classes: list[int]) -> list[int]:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 1, 10, 11], [0, 50, 10, 60]])
    return nms(boxes, torch.tensor([0.8, 0.9, 0.1]), torch.tensor(classes)).tolist()


def test_nms_drops_the_worse_of_two_overlapping_boxes_of_a_class():
    assert nms_case([1, 1, 1]) == [1, 2]


def test_nms_keeps_overlapping_boxes_of_different_classes():
    assert nms_case([1, 2, 1]) == [1, 0, 2]


def test_a_box_suppressed_by_a_suppressed_box_survives():
    # 0 beats 1 (IoU 0.6), 1 would beat 2 (0.6), 0 and 2 overlap by 0.33 only.
    boxes = torch.tensor([[0.0, 0, 1, 8], [0, 2, 1, 10], [0, 4, 1, 12]])
    assert nms(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3, dtype=torch.long)).tolist() == [0, 2]


def test_an_iou_of_exactly_the_threshold_survives():
    boxes = torch.tensor([[0.0, 0, 1, 3], [0, 1, 1, 4]])  # IoU 2/4
    assert nms(boxes, torch.tensor([0.9, 0.8]), torch.zeros(2, dtype=torch.long)).tolist() == [0, 1]


def test_nms_stops_at_the_best_and_takes_no_box_at_all():
    boxes = torch.arange(10.0)[:, None] * 100 + torch.tensor([0.0, 0.0, 1.0, 1.0])
    assert nms(boxes, torch.arange(10.0), torch.zeros(10, dtype=torch.long), best=3).tolist() == [9, 8, 7]
    assert nms(torch.empty(0, 4), torch.empty(0), torch.empty(0, dtype=torch.long)).tolist() == []


def test_postprocess_finds_the_one_object_and_counts_classes_from_one():
    size, classes = (64, 64), 3
    boxes = anchors(size, [5], 1.0)
    logits = torch.full((1, 9 * classes, 2, 2), -20.0)
    logits[0, 0 * classes + 2, 1, 0] = 2.0  # first anchor of cell (row 1, column 0), third class
    (found,) = postprocess([logits], [torch.zeros(1, 36, 2, 2)], boxes, size, classes, best=1)
    expected = torch.tensor([[0.0, 32.0, 32.0, 64.0, torch.tensor(2.0).sigmoid(), 3.0]])
    torch.testing.assert_close(found, expected)


def test_postprocess_clips_to_the_image_and_keeps_pictures_apart():
    boxes = anchors((64, 64), [5], 4.0)
    logits = torch.stack([torch.full((9, 2, 2), -1.0), torch.full((9, 2, 2), -2.0)])
    first, second = postprocess([logits], [torch.zeros(2, 36, 2, 2)], boxes, (64, 64), num_classes=1)
    assert first[:, :4].min() >= 0
    assert first[:, :4].max() <= 64
    assert second[0, 4] == pytest.approx(torch.tensor(-2.0).sigmoid().item())
