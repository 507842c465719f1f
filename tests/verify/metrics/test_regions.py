"""mIoU against confusion matrices counted by hand, and pixels of the picture found in the network's logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from exporter.quantize.preprocess import Preprocess, View
from exporter.verify.metrics.regions import IGNORED, MeanIoU, classes_of_pixels

SAME = View((4, 2), (1.0, 1.0), (0, 0))
"""A picture of 4 x 2 pixels that is the input."""


def logits(classes, count=3):
    return functional.one_hot(torch.tensor(classes), count).permute(2, 0, 1)[None].float()


def judged(*pairs):
    metric = MeanIoU(len(pairs), 3, (2, 4))
    for image, (found, wanted) in enumerate(pairs):
        metric.add(image, [logits(found)], (SAME, np.array(wanted, np.uint8)))
    return metric


FOUND = [[0, 0, 1, 1], [0, 2, 2, 1]]
WANTED = [[0, 0, 0, 1], [2, 2, 2, 1]]


def test_one_image():
    """Class 0: 2 of 4; 1: 2 of 3; 2: 2 of 3."""
    assert judged((FOUND, WANTED)).values() == pytest.approx([(2 / 4 + 2 / 3 + 2 / 3) / 3])


def test_counts_of_all_images_are_added_before_dividing():
    """Class 0: 2 + 8 of 4 + 8; the others as before."""
    both = judged((FOUND, WANTED), ([[0] * 4] * 2, [[0] * 4] * 2))
    assert both.values() == pytest.approx([(10 / 12 + 2 / 3 + 2 / 3) / 3])
    assert both.values(np.array([0, 2])) == pytest.approx([1.0])


def test_unlabelled_pixels_and_absent_classes_do_not_count():
    wanted = [[0, 0, IGNORED, 1], [IGNORED, IGNORED, IGNORED, 1]]
    assert judged((FOUND, wanted)).values() == pytest.approx([1.0])
    nothing = judged((FOUND, [[IGNORED] * 4] * 2))
    assert np.isnan(nothing.values()).all()


def test_a_class_that_is_only_there_or_only_claimed_counts_as_nothing_found():
    """Class 0: 6 of 8 pixels, 1: 0 of 1, 2: 0 of 1."""
    found, wanted = [[0, 0, 0, 0], [0, 0, 0, 2]], [[0, 0, 0, 0], [0, 0, 1, 0]]
    assert judged((found, wanted)).values() == pytest.approx([(6 / 8 + 0 + 0) / 3])


def test_between_logits_as_torch_resizes():
    """What F.interpolate (align_corners false) makes of a quarter of the size; a whole picture is seen."""
    torch.manual_seed(0)
    quarter = torch.randn(1, 5, 8, 16)
    ((top, found),) = classes_of_pixels(quarter, View((64, 32), (1.0, 1.0), (0, 0)), (32, 64))
    whole = functional.interpolate(quarter, size=(32, 64), mode="bilinear", align_corners=False)
    assert top == 0
    assert np.array_equal(found, whole[0].argmax(0).numpy())


@pytest.mark.parametrize("resize", ["stretch", "letterbox", "crop"])
@pytest.mark.parametrize("picture", [(200, 100), (90, 600), (64, 64)], ids=str)
def test_a_mask_seen_in_the_input_is_found_in_the_picture(picture, resize):
    """A network that gives back its input as logits of two classes; the picture is white at its right and below."""
    width, height = picture
    mask = np.zeros((height, width), np.uint8)
    mask[height // 3 :, width // 2 :] = 1
    preprocess = Preprocess(size=(96, 128), resize=resize, mean=(0, 0, 0), std=(1, 1, 1))
    x = preprocess.apply(Image.fromarray(255 * mask).convert("RGB"))[None]
    view = preprocess.view(width, height)
    output = torch.cat([1 - x[:, :1], x[:, :1]], 1)
    found = np.concatenate([rows for _, rows in classes_of_pixels(output, view, preprocess.size)])
    seen = found >= 0
    assert found.shape == mask.shape
    assert seen.all() or resize == "crop"
    metric = MeanIoU(1, 2, preprocess.size)
    metric.add(0, [output], (view, mask))
    edge = 2 * (width + height) / max(view.scale) / mask.size + 2 * (width + height) / mask.size
    assert (found != mask)[seen].sum() / mask.size < min(edge, 0.06)
    assert metric.values()[0] > 0.85
