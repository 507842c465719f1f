"""depth_to_space: pixel_shuffle, whose channels lie in another order."""

from __future__ import annotations

import pytest
from parity import check_float, check_int8, image
from torch import nn

CHECKS = pytest.mark.parametrize("check", [check_float, check_int8])


@pytest.mark.parametrize(("channels", "block"), [(8, 2), (4, 2), (18, 3), (32, 4)])
@CHECKS
def test_pixel_shuffle(check, channels, block):
    result = check(nn.PixelShuffle(block), image(1, channels, 3, 5))
    assert result.nodes[-1] == "depth_to_space"
    assert result.ops[-1] == "DEPTH_TO_SPACE"
    assert result.outside == ()


@CHECKS
def test_behind_a_convolution(check):
    check(nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2), nn.ReLU()), image(1, 3, 6, 5))
