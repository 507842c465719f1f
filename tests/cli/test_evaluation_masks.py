"""`--eval` with masks through the real command: a segmenter whose mIoU is known beforehand."""

from __future__ import annotations

import numpy as np
import pytest
from command import edge_export
from PIL import Image
from refusals import refused

SEGMENTER = """
import torch
from torch import nn

def make():
    '''Logits of a fourth of the size: the colour of which there is most.'''
    pick = nn.Conv2d(3, 3, 4, 4)
    with torch.no_grad():
        pick.weight.copy_(torch.eye(3)[..., None, None].expand(3, 3, 4, 4) / 16)
        pick.bias.zero_()
    return pick
"""


def striped(folder):
    """Four pictures of three stripes; in one of them a third of the mask says another class."""
    for place in ("images", "masks"):
        (folder / place).mkdir(parents=True)
    for number in range(4):
        mask = np.repeat(np.arange(3, dtype=np.uint8), 32)[None].repeat(64, 0)
        pixels = np.zeros((64, 96, 3), np.uint8)
        for colour in range(3):
            pixels[..., colour] = (mask == colour) * (200 + number)
        if number == 3:
            mask[:, 64:] = 0
        mask[:4] = 255
        Image.fromarray(pixels).save(folder / "images" / f"{number}.jpg", quality=95, subsampling=0)
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")


@pytest.fixture
def segmenter(desk):
    (desk / "segmenter.py").write_text(SEGMENTER)
    striped(desk / "set")
    return desk


def test_a_segmenter_whose_masks_are_known(segmenter):
    """Stripes: class 0 is 4 of 5 of them, class 1 4 of 4, class 2 3 of 4."""
    done = edge_export(
        "segmenter:make", "--size", "32x48", "--int8", "--calib", "set/images", "--eval", "set", "--json", cwd=segmenter
    )
    assert done.code == 0, done.err
    rows = done.json["verification"]["evaluation"]["scores"]
    found = {(row["target"], row["file"], row["metric"]): row["value"] for row in rows}
    assert found.keys() == {("", "PyTorch", "mIoU"), ("tflite", "float32", "mIoU"), ("tflite", "int8", "mIoU")}
    assert all(value == pytest.approx((4 / 5 + 1 + 3 / 4) / 3, abs=0.03) for value in found.values())
    evaluation = done.json["verification"]["evaluation"]
    assert (evaluation["task"], evaluation["seen_in_calibration"]) == ("segmentation", 4)
    low, high = evaluation["scores"][0]["interval"]
    assert low < found["", "PyTorch", "mIoU"] <= high


def smaller(folder):
    Image.new("L", (48, 32)).save(folder / "masks" / "1.png")


def coloured(folder):
    Image.new("RGB", (96, 64)).save(folder / "masks" / "2.png")


def seventh(folder):
    Image.new("L", (96, 64), 7).save(folder / "masks" / "0.png")


MASKS = {
    "absent": (
        lambda folder: (folder / "masks" / "3.png").unlink(),
        ["1 of 4 masks in set", "masks/3.png  is missing"],
    ),
    "another size": (smaller, ["masks/1.png  is 48 x 32, its picture 96 x 64"]),
    "colours": (coloured, ["masks/2.png  holds RGB colours, not class numbers"]),
    "unknown class": (seventh, ["set/masks/0.png holds classes that the model has not", "the model has 0 to 2"]),
}


@pytest.mark.parametrize("case", MASKS)
def test_masks_that_do_not_fit_are_refused(segmenter, case):
    spoil, said = MASKS[case]
    spoil(segmenter / "set")
    done = edge_export("segmenter:make", "--size", "32x48", "--eval", "set", "--quiet", cwd=segmenter)
    refused(done, 3, *said)


def test_masks_do_not_judge_a_classifier(segmenter):
    done = edge_export(
        "fasternet_t0", "--weights", "random", "--size", "64x64", "--eval", "set", "--quiet", cwd=segmenter
    )
    refused(done, 2, "masks judge a segmenter", "[1, 1000]")
