"""resize_bilinear: half-pixel centres or aligned corners."""

from __future__ import annotations

import pytest
import torch.nn.functional as F
from parity import check_float, check_int8, image

from exporter.errors import UnsupportedError

SIZES = [
    pytest.param((4, 4), (8, 8), id="doubled"),
    pytest.param((3, 4), (5, 7), id="by-a-fraction"),
    pytest.param((8, 6), (16, 12), id="lite-hrnet-head"),
    pytest.param((8, 8), (4, 4), id="halved"),
    pytest.param((7, 9), (3, 4), id="shrunk-by-a-fraction"),
    pytest.param((1, 1), (4, 4), id="one-pixel"),
    pytest.param((5, 5), (1, 1), id="to-one-pixel"),
    pytest.param((2, 7), (16, 16), id="2x7-to-16x16"),
]


def resize(size, align_corners):
    return lambda x: F.interpolate(x, size, mode="bilinear", align_corners=align_corners)


@pytest.mark.parametrize("align_corners", [pytest.param(True, id="aligned"), pytest.param(False, id="half-pixel")])
@pytest.mark.parametrize(("size", "target"), SIZES)
def test_float(size, target, align_corners):
    result = check_float(resize(target, align_corners), image(1, 3, *size))
    assert result.ops == ["RESIZE_BILINEAR"]


@pytest.mark.parametrize("align_corners", [pytest.param(True, id="aligned"), pytest.param(False, id="half-pixel")])
@pytest.mark.parametrize(("size", "target"), SIZES)
def test_int8(size, target, align_corners):
    result = check_int8(resize(target, align_corners), image(1, 3, *size))
    assert result.ops == ["RESIZE_BILINEAR"]


@pytest.mark.parametrize("check", [check_float, check_int8])
def test_whole_scale_factor(check):
    check(lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), image(2, 3, 4, 5, low=0, high=9))


def test_a_scale_factor_that_does_not_divide_the_size_is_refused():
    """PyTorch then samples by the factor, every runtime by the sizes."""
    with pytest.raises(UnsupportedError, match="scale factor that does not divide the size"):
        check_float(lambda x: F.interpolate(x, scale_factor=1.3, mode="bilinear"), image(1, 3, 5, 5))
