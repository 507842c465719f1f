"""Detections are compared as sets: which pair up, and what the gates make of it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from exporter.recipe import Gates
from exporter.verify.detections import SAME, SIMILAR, DetectionMeter, Tolerance
from exporter.verify.gates import judge
from exporter.verify.results import FileFacts, Matched, Measurements, Verification

BOXES = torch.tensor([[0.0, 0.0, 1.0, 1.0], [2.0, 2.0, 3.0, 3.0], [5.0, 5.0, 6.0, 7.0]])


def outputs(boxes: Tensor = BOXES, classes: tuple[float, ...] = (0, 1, 2), scores: tuple[float, ...] = (0.9, 0.8, 0.7)):
    """What a file gives: rows beyond the number hold anything."""
    count = len(boxes)
    rest = torch.full((1, 2, 4), 7.0)
    return [
        torch.cat([boxes[None], rest], 1),
        torch.tensor([[*classes, 5.0, 5.0]]),
        torch.tensor([[*scores, 0.99, 0.98]]),
        torch.tensor([float(count)]),
    ]


def measured(reference: list[Tensor], result: list[Tensor], tolerance: Tolerance = SAME) -> Matched:
    meter = DetectionMeter("int8", "interpreter", tolerance)
    meter.add(reference, result)
    return meter.result()


def test_equal_detections_pair_up_whatever_lies_behind_them():
    other = outputs()
    other[0][0, 3:] = -1
    row = measured(outputs(), other)
    assert (row.expected, row.found, row.matched, row.share) == (3, 3, 3, 1.0)
    assert (row.mean_iou, row.max_score_error) == (1.0, 0.0)


def test_the_order_does_not_matter():
    flipped = outputs(BOXES.flip(0), (2, 1, 0), (0.7, 0.8, 0.9))
    assert measured(outputs(), flipped).share == 1.0


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(outputs(classes=(0, 1, 1)), id="class"),
        pytest.param(outputs(scores=(0.9, 0.8, 0.702)), id="score"),
        pytest.param(outputs(BOXES + torch.tensor([[0.0], [0.0], [0.02]])), id="box"),
        pytest.param(outputs(BOXES[:2], (0, 1), (0.9, 0.8)), id="missing"),
    ],
)
def test_another_class_score_or_box_is_no_pair(other):
    assert measured(outputs(), other).matched == 2
    assert measured(other, outputs()).share == pytest.approx(2 / 3)


def test_a_detection_pairs_once():
    twice = outputs(torch.stack([BOXES[0], BOXES[0], BOXES[0]]), (0, 0, 0), (0.9, 0.9, 0.9))
    assert measured(outputs(BOXES[:1], (0,), (0.9,)), twice).matched == 1
    assert measured(twice, outputs(BOXES[:1], (0,), (0.9,))).matched == 1


def test_of_several_that_fit_the_nearest_is_taken():
    near, far = BOXES[:1] + 0.01, BOXES[:1] + 0.2
    row = measured(
        outputs(BOXES[:1], (0,), (0.9,)), outputs(torch.cat([far, near]), (0, 0), (0.9, 0.5)), Tolerance(0.3, 1)
    )
    assert row.max_score_error == pytest.approx(0.4)


def test_similar_detections_share_class_and_half_their_area():
    moved = outputs(BOXES + 0.1, scores=(0.5, 0.4, 0.3))
    assert measured(outputs(), moved, SAME).matched == 0
    assert measured(outputs(), moved, SIMILAR).matched == 3


def test_nothing_on_either_side_is_agreement_and_something_on_one_side_is_not():
    nothing = outputs(BOXES[:0], (), ())
    assert measured(nothing, nothing).share == 1.0
    assert measured(nothing, outputs()).share == 0.0
    assert measured(outputs(), nothing).share == 0.0


# --- gates ------------------------------------------------------------------------------------------------------------
def row(file: str, reference: str, matched: int, expected: int = 100) -> Matched:
    return Matched(
        file=file, reference=reference, expected=expected, found=expected, matched=matched,
        least_iou=0.5, most_score=1, mean_iou=0.9, max_score_error=0,
    )  # fmt: skip


def judged(*rows: Matched, **gates: float | None) -> dict[str, bool]:
    shipped = FileFacts(path="m", precision="float32", size_bytes=1, sha256="", ops={}, integer_ops=0, border_ops=0)
    found = judge(
        Verification(targets=(Measurements(target="tflite", detections=rows, files=(shipped,)),)), Gates(**gates)
    )
    return {gate.name: gate.passed for gate in found}


def test_a_float_file_must_find_what_pytorch_finds_and_an_int8_file_what_the_interpreter_finds():
    assert judged(row("float32", "PyTorch", 98)) == {"float32 detections of PyTorch": False}
    assert judged(row("int8", "interpreter", 98)) == {"int8 detections of interpreter": False}
    assert judged(row("int8", "interpreter", 99)) == {"int8 detections of interpreter": True}
    assert judged(row("float16", "interpreter", 10)) == {"float16 detections of interpreter": False}


def test_how_near_int8_comes_to_pytorch_is_judged_on_request():
    assert judged(row("int8", "PyTorch", 10)) == {}
    assert judged(row("int8", "PyTorch", 10), similar_detections=0.5) == {"int8 detections of PyTorch": False}


def test_nothing_is_judged_where_nothing_was_found():
    assert judged(row("float32", "PyTorch", 0, expected=0)) == {}
