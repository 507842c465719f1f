"""Distances between outputs: every two sources, every output, over all samples."""

from __future__ import annotations

import torch

from exporter.verify.distance import Distances

CODES = torch.tensor([[-128, 0, 5, 127]], dtype=torch.int8)


def test_every_two_sources_are_compared_output_by_output() -> None:
    distances = Distances(["boxes", "scores"])
    for _ in range(2):
        moved = CODES.clone()
        moved[0, 0] += 3
        distances.add({"tflite": [CODES, CODES], "onnx": [CODES, moved], "interpreter": [CODES, moved]})
    rows = {(row.one, row.other, row.output): (row.equal, row.max_lsb, row.count) for row in distances.result()}
    assert rows == {
        ("tflite", "onnx", "boxes"): (1.0, 0, 8),
        ("tflite", "onnx", "scores"): (0.75, 3, 8),
        ("tflite", "interpreter", "boxes"): (1.0, 0, 8),
        ("tflite", "interpreter", "scores"): (0.75, 3, 8),
        ("onnx", "interpreter", "boxes"): (1.0, 0, 8),
        ("onnx", "interpreter", "scores"): (1.0, 0, 8),
    }


def test_the_ends_of_int8_are_255_apart() -> None:
    distances = Distances(["y"])
    distances.add({"one": [CODES[:, :1]], "other": [CODES[:, 3:]]})
    assert [row.max_lsb for row in distances.result()] == [255]


def test_one_source_has_nothing_to_be_compared_with() -> None:
    distances = Distances(["y"])
    distances.add({"tflite": [CODES]})
    assert distances.result() == ()
