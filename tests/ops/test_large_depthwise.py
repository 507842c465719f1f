"""Depthwise convolutions of more than 25 taps: pieces of rows, because XNNPACK has no larger depthwise kernel."""

from __future__ import annotations

import pytest
from parity import check_float, check_int8, image
from torch import nn

IN_PIECES = {
    # layer, number of pieces
    "7x7": (nn.Conv2d(6, 6, 7, padding=3, groups=6), 3),
    "7x7 without padding": (nn.Conv2d(6, 6, 7, groups=6), 3),
    "7x7 at stride 2": (nn.Conv2d(6, 6, 7, 2, 3, groups=6, bias=False), 3),
    "7x7 dilated": (nn.Conv2d(6, 6, 7, padding=6, dilation=2, groups=6), 3),
    "7x7 with two outputs a channel": (nn.Conv2d(6, 12, 7, padding=3, groups=6), 3),
    "9x3": (nn.Conv2d(6, 6, (9, 3), padding=(4, 1), groups=6), 2),
    "31x1": (nn.Conv2d(6, 6, (31, 1), padding=(15, 0), groups=6), 2),
    "with relu": (nn.Sequential(nn.Conv2d(6, 6, 7, padding=3, groups=6), nn.ReLU()), 3),
}

WHOLE = {
    "5x5": nn.Conv2d(6, 6, 5, padding=2, groups=6),
    "7x7 but not depthwise": nn.Conv2d(6, 6, 7, padding=3, groups=3),
    "more taps in one row": nn.Conv2d(6, 6, (3, 27), padding=(1, 13), groups=6),
}


@pytest.mark.parametrize("name", IN_PIECES)
@pytest.mark.parametrize("check", [check_float, check_int8])
def test_in_pieces(check, name):
    layer, count = IN_PIECES[name]
    result = check(layer, image(1, 6, 16, 15, low=-1, high=2))
    assert result.ops.count("DEPTHWISE_CONV_2D") == count
    assert result.ops.count("ADD") == count - 1


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("check", [check_float, check_int8])
def test_in_one(check, name):
    assert "ADD" not in check(WHOLE[name], image(1, 6, 16, 15, low=-1, high=2)).ops


def test_float16_weights():
    check_float(IN_PIECES["7x7"][0], image(1, 6, 16, 15), precision="float16", least=60)
