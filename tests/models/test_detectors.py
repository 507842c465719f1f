"""Detectors with their post-processing: the wrappers, and the files made of them, against the model's raw outputs."""

from __future__ import annotations

import pytest
import torch
from parity import FLOAT_SNR, check_int8, image, lower, run_float, simplified, snr
from torch import Tensor, nn

from exporter.build import build_model
from exporter.build.detection import centre_size, postprocess
from exporter.build.postprocess import Decoded, Detections, Detector
from exporter.ir.detection import decode
from exporter.quantize import quantize
from exporter.quantize.calibrate import calibrate

SIZE = (64, 96)
X = image(1, 3, *SIZE, low=-2, high=2)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """EfficientDet-Lite0 with heads that speak: scores spread over 0..1, boxes near their anchors."""
    model = build_model("tf_efficientdet_lite0", SIZE, 4)
    with torch.no_grad():
        spread(model.class_net, *model(X)[0], mean=-2.0, std=2.0)
        spread(model.box_net, *model(X)[1], mean=0.0, std=0.3)
    return model


def spread(head: nn.Module, *levels: Tensor, mean: float, std: float) -> None:
    """Scale the predictor so that its outputs have this mean and spread."""
    values, predict = torch.cat([level.flatten() for level in levels]), head.predict.conv_pw
    factor = std / values.std()
    predict.weight.mul_(factor)
    predict.bias.mul_(factor).add_(mean - factor * values.mean())


def test_efficientdet_is_a_detector_and_a_classifier_is_not(model):
    assert isinstance(model, Detector)
    assert not isinstance(nn.Linear(2, 2), Detector)


def test_priors_are_parts_of_the_image(model):
    pixels = model.priors() * torch.tensor([*SIZE, *SIZE])
    torch.testing.assert_close(pixels, centre_size(model.anchors()))


def test_decoded_boxes_and_scores_are_those_of_the_raw_heads(model):
    boxes, scores = Decoded(model)(X)
    classes, codes = model(X)
    first = codes[0].permute(0, 2, 3, 1).reshape(1, -1, 4)
    pixels = decode(first, centre_size(model.anchors())[: first.shape[1]])
    torch.testing.assert_close(boxes[:, : first.shape[1]] * torch.tensor([*SIZE, *SIZE]), pixels)
    torch.testing.assert_close(scores[0, 0], classes[0][0, :4, 0, 0].sigmoid())


def test_per_class_detections_are_those_of_effdet(model):
    """Above the score threshold, inside the image, and below effdet's 5000 candidates both follow one rule."""
    boxes, classes, scores, count = Detections(model, 0.3, 0.5, 100, per_class=True)(X)
    theirs = postprocess(*model(X), model.anchors(), SIZE, 4, threshold=0.5)[0]
    theirs = theirs[theirs[:, 4] >= 0.3]
    inside = (boxes[0] >= 0).all(-1) & (boxes[0] <= 1).all(-1) & (torch.arange(100) < count)
    ours = torch.cat([boxes[0][:, [1, 0, 3, 2]] * torch.tensor([96, 64, 96, 64]), scores[0, :, None]], 1)[inside]
    assert len(ours) >= 10
    gaps = torch.cdist(torch.cat([ours, classes[0][inside][:, None] + 1], 1), theirs, p=float("inf")).amin(1)
    assert (gaps < 1e-3).float().mean() >= 0.9  # clipping changes an IoU here and there


def test_the_float_file_of_decoded_outputs(model):
    wrapped = Decoded(model)
    graph = simplified(wrapped, X)
    exported = lower(graph, [X])
    for got, want in zip(exported.outputs, wrapped(X), strict=True):
        assert snr(got, want) >= FLOAT_SNR - 10


def test_the_int8_file_of_decoded_outputs_is_integer_up_to_the_heads(model):
    result = check_int8(Decoded(model), X, least=15)
    assert result.ops.count("DEQUANTIZE") == 10
    assert result.islands == {}


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
def test_the_file_finds_what_the_same_rules_find_in_torch(model, per_class, int8):
    graph = simplified(Detections(model, 0.3, 0.5, 50, per_class), X)
    if int8:
        quantize(graph, calibrate(graph, [(X,)], "minmax"), io="float")
    theirs, ours = lower(graph, [X]).outputs, run_float(graph, X)
    rows = int(ours[3])
    assert int(theirs[3]) == rows >= 10
    for got, want in zip(theirs[:3], ours[:3], strict=True):
        torch.testing.assert_close(got[:, :rows], want[:, :rows], rtol=0, atol=1e-5)
