"""conv_transpose2d: strides, crops, output padding, groups; SAME, VALID and what is neither."""

from __future__ import annotations

import pytest
from parity import check_float, check_int8, image
from torch import nn

CASES = {
    "2x2 stride 2": (nn.ConvTranspose2d(4, 6, 2, 2), ["TRANSPOSE_CONV"]),
    "4x4 stride 2": (nn.ConvTranspose2d(4, 6, 4, 2, 1), ["TRANSPOSE_CONV"]),
    "3x3 stride 2, output padding": (nn.ConvTranspose2d(4, 6, 3, 2, 1, 1), ["TRANSPOSE_CONV", "SLICE"]),
    "3x3 stride 2": (nn.ConvTranspose2d(4, 6, 3, 2, 1), ["TRANSPOSE_CONV", "SLICE"]),
    "3x3 stride 2, more rows than taps": (nn.ConvTranspose2d(4, 6, 2, 2, 0, 1), ["TRANSPOSE_CONV"]),
    "3x3 stride 1": (nn.ConvTranspose2d(4, 6, 3, 1, 1), ["TRANSPOSE_CONV"]),
    "3x3 stride 3": (nn.ConvTranspose2d(4, 6, 3, 3), ["TRANSPOSE_CONV"]),
    "5x5 stride 4": (nn.ConvTranspose2d(4, 6, 5, 4, 2, 3), ["TRANSPOSE_CONV", "SLICE"]),
    "1x1 stride 2": (nn.ConvTranspose2d(4, 6, 1, 2), ["TRANSPOSE_CONV"]),
    "rectangular": (nn.ConvTranspose2d(4, 6, (3, 2), (1, 2), (1, 0)), ["TRANSPOSE_CONV"]),
    "without bias": (nn.ConvTranspose2d(4, 6, 2, 2, bias=False), ["TRANSPOSE_CONV"]),
    "grouped": (nn.ConvTranspose2d(4, 6, 2, 2, groups=2), ["TRANSPOSE_CONV"]),
    "depthwise": (nn.ConvTranspose2d(4, 4, 4, 2, 1, groups=4, bias=False), ["TRANSPOSE_CONV"]),
    "dilated": (nn.ConvTranspose2d(4, 6, 3, 2, 2, 1, dilation=2), ["TRANSPOSE_CONV", "SLICE"]),
    "with BatchNorm and ReLU": (
        nn.Sequential(nn.ConvTranspose2d(4, 6, 2, 2), nn.BatchNorm2d(6), nn.ReLU()),
        ["TRANSPOSE_CONV"],
    ),
}
CHECKS = pytest.mark.parametrize("check", [check_float, check_int8])


@pytest.mark.parametrize("case", CASES)
@CHECKS
def test_conv_transpose2d(check, case):
    model, ops = CASES[case]
    result = check(model, image(1, 4, 5, 7, low=-1, high=2))
    assert result.ops == ops
    assert result.outside == ()


@CHECKS
def test_a_batch_of_two(check):
    check(nn.ConvTranspose2d(4, 6, 4, 2, 1), image(2, 4, 5, 7))
