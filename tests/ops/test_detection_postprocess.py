"""detection_postprocess: boxes, classes, scores and number of TFLite's kernel, against the same rules in torch."""

from __future__ import annotations

import pytest
import torch
from parity import Exported, check_float, check_int8, image, lower, lower_onnx, simplified
from torch import Tensor, nn

from exporter.build.postprocess import detection_postprocess, float_tail
from exporter.errors import UnsupportedError
from exporter.ir.detection import detect
from exporter.ir.run import Interpreter
from exporter.quantize import quantize
from exporter.quantize.calibrate import calibrate

SIDE = 6
GRID = torch.stack(torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij"), -1).reshape(-1, 2)
ANCHORS = torch.cat([(GRID + 0.5) / SIDE, torch.full((SIDE * SIDE, 2), 2 / SIDE)], 1)
"""36 anchors of twice the cell's size: neighbours overlap by a third, every other by nothing."""

SETTINGS = [
    pytest.param((0.3, 0.5, 20, False), id="best-class"),
    pytest.param((0.3, 0.5, 20, True), id="per-class"),
    pytest.param((0.0, 0.2, 5, False), id="best-class-few"),
    pytest.param((0.0, 0.2, 5, True), id="per-class-few"),
    pytest.param((0.6, 1.0, 40, False), id="nothing-falls"),
    pytest.param((0.6, 0.01, 40, True), id="all-neighbours-fall"),
    pytest.param((1.5, 0.5, 20, False), id="nothing-found"),
]


class Head(nn.Module):
    """Codes [1, A, 4] and scores [1, A, C] of an 'image' that holds them: [1, A, 4 + C]."""

    def __init__(self, score: float, iou: float, most: int, per_class: bool) -> None:
        super().__init__()
        self.register_buffer("anchors", ANCHORS)
        self.settings = (score, iou, most, per_class)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        codes, scores = float_tail(x[..., :4]), float_tail(x[..., 4:])
        return detection_postprocess(codes, scores, self.anchors, *self.settings)


def heads(classes: int = 3, seed: int = 1) -> Tensor:
    """Codes in ±0.5 and scores in 0..1."""
    codes = image(1, len(ANCHORS), 4, low=-0.5, high=0.5, seed=seed)
    return torch.cat([codes, image(1, len(ANCHORS), classes, low=0, seed=seed + 1)], -1)


def found(outputs: list[Tensor]) -> list[Tensor]:
    """The rows that mean something."""
    boxes, classes, scores, number = outputs
    rows = int(number[0])
    return [boxes[0, :rows], classes[0, :rows], scores[0, :rows]]


def run(graph, operands) -> tuple[Exported, list[Tensor], list[Tensor]]:
    """A file, what LiteRT finds with it, and what the interpreter finds."""
    exported = lower(graph, operands)
    return exported, found(exported.outputs), found(Interpreter(graph).run(operands))


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_float(settings, seed):
    x = heads(seed=seed)
    _, theirs, ours = run(simplified(Head(*settings), x), [x])
    for got, want in zip(theirs, ours, strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=2e-7)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_float_in_onnx(settings, seed):
    x = heads(seed=seed)
    graph = simplified(Head(*settings), x)
    for got, want in zip(found(lower_onnx(graph, [x])), found(Interpreter(graph).run([x])), strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-6)


def test_rows_beyond_the_number_are_zero_in_onnx():
    x = heads()
    boxes, classes, scores, number = lower_onnx(simplified(Head(0.9, 0.5, 30, False), x), [x])
    assert 0 < int(number[0]) < 30
    assert all(not rows[0, int(number[0]) :].any() for rows in (boxes, classes, scores))


@pytest.mark.parametrize("settings", SETTINGS)
def test_int8(settings):
    x = heads()
    graph = simplified(Head(*settings), x)
    quantize(graph, calibrate(graph, [(x,)], "minmax"), io="int8")
    assert graph.inputs[0].quant is not None
    exported, theirs, ours = run(graph, [graph.inputs[0].quant.quantize(x)])
    assert exported.ops == ["SLICE", "DEQUANTIZE", "SLICE", "DEQUANTIZE", "TFLite_Detection_PostProcess"]
    for got, want in zip(theirs, ours, strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=2e-7)


def test_the_whole_output_where_every_row_is_filled():
    """Rows beyond the number are undefined in the file, so that only a full result compares as a whole."""
    check_float(Head(0.0, 0.5, 8, False), heads())
    check_int8(Head(0.0, 0.5, 8, False), heads(), least=15)


@pytest.mark.parametrize("per_class", [False, True])
def test_equal_scores_come_in_the_order_of_the_anchors(per_class):
    x = heads()
    x[..., 4:] = (x[..., 4:] * 3).round() / 4
    graph = simplified(Head(0.2, 0.5, 30, per_class), x)
    _, theirs, ours = run(graph, [x])
    assert len(ours[2].unique()) < len(ours[2])
    for got, want in zip(found(lower_onnx(graph, [x])), ours, strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-6)
    for got, want in zip(theirs, ours, strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=2e-7)


def test_one_object_is_found_once_and_a_neighbour_of_another_class_depends_on_the_mode():
    x = torch.zeros(1, len(ANCHORS), 7)
    x[0, 7, 5], x[0, 8, 6] = 0.9, 0.8  # overlap a third
    across = detect(x[..., :4], x[..., 4:], ANCHORS, 0.5, 0.3, 10, False)
    within = detect(x[..., :4], x[..., 4:], ANCHORS, 0.5, 0.3, 10, True)
    assert [int(result[3]) for result in (across, within)] == [1, 2]
    assert within[1][0, :2].tolist() == [1, 2]
    torch.testing.assert_close(across[0][0, 0], torch.tensor([0.5, 0.5, 2.5, 2.5]) / SIDE)


def test_a_score_of_exactly_the_threshold_counts():
    x = torch.zeros(1, len(ANCHORS), 5)
    x[0, 3, 4] = 0.5
    _, theirs, ours = run(simplified(Head(0.5, 0.5, 4, False), x), [x])
    assert [len(theirs[0]), len(ours[0])] == [1, 1]
    assert len(found(lower_onnx(simplified(Head(0.5, 0.5, 4, False), x), [x]))[0]) == 1


def test_two_pictures_at_once_are_refused():
    x = heads().repeat(2, 1, 1)
    from exporter.lower.tflite import TFLite

    ((_, reason),) = TFLite().unsupported(simplified(Head(0.5, 0.5, 4, False), x))
    assert "one picture" in reason


def test_an_anchor_table_computed_from_the_input_is_refused():
    class Wrong(Head):
        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return detection_postprocess(x[..., :4], x[..., 4:], self.anchors * x[0, :, :4], *self.settings)

    with pytest.raises(UnsupportedError, match="cannot be captured") as caught:
        simplified(Wrong(0.5, 0.5, 4, False), heads())
    assert "the anchors are computed from the input" in str(caught.value)
