"""YOLO layers: boxes and scores worked out by hand, and the files that decode them."""

import math

import pytest
import torch
from parity import FLOAT_SNR, check_int8, image, lower, run_float, simplified, snr

from exporter.build import build_model, refit_batchnorm
from exporter.build.postprocess import Decoded, Detections, Detector
from exporter.build.yolo import CLASSIC, OPTIMAL, YoloDetector
from exporter.ir.detection import decode, detect
from exporter.quantize import quantize
from exporter.quantize.calibrate import calibrate

SIZE = (64, 96)
CLASSES = 4
CELLS = [(8, 12), (4, 6), (2, 3)]
SILENT = -50.0
X = image(1, 3, *SIZE, low=0, high=1)


def logit(p):
    return math.log(p / (1 - p))


def maps():
    """Raw maps that find nothing: boxes as their anchors, every objectness next to 0."""
    levels = [torch.zeros(1, 3 * (5 + CLASSES), *cells) for cells in CELLS]
    for level in levels:
        level[:, 4 :: 5 + CLASSES] = SILENT
    return levels


def put(levels, level, anchor, row, column, *, box=(0.0, 0.0, 0.0, 0.0), objectness=0.5, scores=()):
    """Write raw x, y, w, h, and the logits of objectness and of the classes' scores, into one anchor of one cell."""
    numbers = [*box, logit(objectness), *(logit(scores[k]) if k in scores else SILENT for k in range(CLASSES))]
    start = anchor * (5 + CLASSES)
    levels[level][0, start : start + 5 + CLASSES, row, column] = torch.tensor(numbers)


def decoded(head, levels):
    """Boxes y0, x0, y1, x1 in pixels [A, 4] and scores [A, classes]."""
    detector = YoloDetector(head, SIZE, CLASSES)
    codes, scores = detector.predictions(levels)
    return (decode(codes, detector.priors()) * torch.tensor([*SIZE, *SIZE]))[0], scores[0]


def index(level, row, column, anchor):
    before = sum(3 * rows * columns for rows, columns in CELLS[:level])
    return before + 3 * (row * CELLS[level][1] + column) + anchor


@pytest.mark.parametrize(("head", "level", "anchor", "side"), [
    (CLASSIC, 0, 0, (10, 13)),
    (CLASSIC, 1, 2, (59, 119)),
    (CLASSIC, 2, 1, (156, 198)),
    (OPTIMAL, 0, 2, (40, 28)),
    (OPTIMAL, 2, 2, (459, 401)),
])  # fmt: skip
def test_zeros_are_the_anchor_in_the_middle_of_its_cell(head, level, anchor, side):
    boxes, scores = decoded(head, maps())
    stride, (width, height) = (8, 16, 32)[level], side
    y, x = 1.5 * stride, 2.5 * stride
    wanted = torch.tensor([y - height / 2, x - width / 2, y + height / 2, x + width / 2])
    torch.testing.assert_close(boxes[index(level, 1, 2, anchor)], wanted)
    assert float(scores.max()) < 1e-20


def test_a_classic_box():
    levels = maps()
    box = (logit(0.75), logit(0.25), math.log(2), math.log(0.5))
    put(levels, 1, 1, 1, 2, box=box, objectness=0.8, scores={3: 0.5})
    boxes, scores = decoded(CLASSIC, levels)
    # centre (2.75, 1.25) cells of 16 pixels, sides 62 · 2 and 45 / 2
    found = boxes[index(1, 1, 2, 1)]
    torch.testing.assert_close(found, torch.tensor([20 - 11.25, 44 - 62, 20 + 11.25, 44 + 62]))
    torch.testing.assert_close(scores[index(1, 1, 2, 1)], torch.tensor([0, 0, 0, 0.4]))


@pytest.mark.parametrize(("level", "scale"), [(0, 1.2), (1, 1.1), (2, 1.05)])
def test_scale_xy_reaches_beyond_the_cell_by_half_of_its_excess(level, scale):
    levels = maps()
    put(levels, level, 0, 1, 1, box=(50.0, -50.0, 0.0, 0.0))
    boxes, _ = decoded(OPTIMAL, levels)
    y0, x0, y1, x1 = boxes[index(level, 1, 1, 0)].tolist()
    stride = (8, 16, 32)[level]
    assert (x0 + x1) / 2 == pytest.approx((2 + (scale - 1) / 2) * stride, rel=1e-5)
    assert (y0 + y1) / 2 == pytest.approx((1 - (scale - 1) / 2) * stride, rel=1e-5)


def test_an_optimal_box_on_a_scaled_grid():
    levels = maps()
    put(levels, 1, 1, 1, 2, box=(logit(0.75), logit(0.25), 0.0, 0.0))
    boxes, _ = decoded(OPTIMAL, levels)
    # x: 0.75 · 1.1 - 0.05 + 2 = 2.775 cells, y: 0.25 · 1.1 - 0.05 + 1 = 1.225, of 16 pixels; anchor 76 x 55
    torch.testing.assert_close(boxes[index(1, 1, 2, 1)], torch.tensor([19.6 - 27.5, 44.4 - 38, 19.6 + 27.5, 44.4 + 38]))


def test_suppression_is_within_a_class():
    levels = maps()
    put(levels, 0, 0, 3, 3, objectness=0.9, scores={0: 0.9, 2: 0.5})
    put(levels, 0, 0, 3, 4, box=(logit(1e-6), 0.0, 0.0, 0.0), objectness=0.8, scores={0: 0.8})  # 4 pixels to the right
    put(levels, 0, 0, 6, 9, objectness=0.7, scores={0: 0.7})
    detector = YoloDetector(CLASSIC, SIZE, CLASSES)
    codes, scores = detector.predictions(levels)
    boxes, classes, values, count = detect(codes, scores, detector.priors(), 0.05, 0.4, 10, per_class=True)
    # the shifted box shares (10 - 4) / (10 + 4) = 0.43 with the first
    assert int(count) == 3
    assert classes[0, :3].tolist() == [0, 0, 2]
    torch.testing.assert_close(values[0, :3], torch.tensor([0.81, 0.49, 0.45]))
    torch.testing.assert_close(boxes[0, 0], boxes[0, 2])


@pytest.fixture(scope="module")
def model():
    """A small detector whose heads speak: refitted, with objectness and classes spread over 0..1."""
    model = build_model("csppeleenet_efm", SIZE, CLASSES)
    refit_batchnorm(model, [image(2, 3, *SIZE, low=0, high=1, seed=2)])
    return model


def test_yolo_models_are_detectors(model):
    assert isinstance(model, Detector)
    assert len(model.priors()) == sum(3 * rows * columns for rows, columns in CELLS)


def test_the_float_file_of_decoded_outputs(model):
    wrapped = Decoded(model)
    exported = lower(simplified(wrapped, X), [X])
    assert "TRANSPOSE" not in exported.ops
    for got, want in zip(exported.outputs, wrapped(X), strict=True):
        assert snr(got, want) >= FLOAT_SNR - 20


def test_the_int8_file_of_decoded_outputs_is_integer_up_to_the_heads(model):
    result = check_int8(Decoded(model), X, least=15)
    assert result.ops.count("DEQUANTIZE") == 3
    assert result.islands == {}


@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
def test_the_file_finds_what_the_same_rules_find_in_torch(model, int8):
    graph = simplified(Detections(model, 0.3, 0.45, 50, per_class=True), X)
    if int8:
        quantize(graph, calibrate(graph, [(X,)], "minmax"), io="float")
    theirs, ours = lower(graph, [X]).outputs, run_float(graph, X)
    rows = int(ours[3])
    assert int(theirs[3]) == rows >= 10
    for got, want in zip(theirs[:3], ours[:3], strict=True):  # boxes reach several images wide here
        torch.testing.assert_close(got[:, :rows], want[:, :rows], rtol=5e-5, atol=1e-5)
