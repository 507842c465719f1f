"""max_pool2d: windows, pads of every kind. Padding never wins."""

from __future__ import annotations

import pytest
import torch.nn.functional as F
from parity import check_float, check_int8, image
from torch import nn

BORDER = ["SLICE", "CONCATENATION"]
"""The first row or column, repeated: it never wins, and XNNPACK runs it, unlike PADV2."""

CASES = [
    pytest.param(nn.MaxPool2d(2), (1, 3, 8, 8), ["MAX_POOL_2D"], id="2x2"),
    pytest.param(nn.MaxPool2d(2), (1, 3, 9, 7), ["MAX_POOL_2D"], id="2x2-odd-size"),
    pytest.param(nn.MaxPool2d(3, 2, 1), (1, 3, 9, 9), ["MAX_POOL_2D"], id="3x3-stride-2-odd-size"),
    pytest.param(nn.MaxPool2d(3, 2, 1), (1, 3, 8, 8), [*BORDER, *BORDER, "MAX_POOL_2D"], id="3x3-stride-2-even-size"),
    pytest.param(nn.MaxPool2d(3, 1, 1), (1, 3, 8, 8), ["MAX_POOL_2D"], id="3x3-same"),
    pytest.param(nn.MaxPool2d(7, 2, 3), (1, 3, 8, 8), ["PADV2", "MAX_POOL_2D"], id="7x7-stride-2-even-size"),
    pytest.param(nn.MaxPool2d(5, 1, 2), (1, 3, 8, 8), ["MAX_POOL_2D"], id="spp-5"),
    pytest.param(nn.MaxPool2d(13, 1, 6), (1, 3, 8, 8), ["MAX_POOL_2D"], id="spp-13-larger-than-the-image"),
    pytest.param(nn.MaxPool2d(3, 2, ceil_mode=True), (1, 3, 8, 8), ["MAX_POOL_2D"], id="ceil"),
    pytest.param(nn.MaxPool2d(2, 2, ceil_mode=True), (1, 3, 9, 8), ["MAX_POOL_2D"], id="ceil-odd-height"),
    pytest.param(nn.AdaptiveMaxPool2d(4), (1, 3, 8, 8), ["MAX_POOL_2D"], id="adaptive-whole-ratio"),
    pytest.param(nn.AdaptiveMaxPool2d(3), (1, 3, 7, 7), ["MAX_POOL_2D"], id="adaptive-overlapping"),
    pytest.param(nn.MaxPool2d((3, 1), (2, 1), (1, 0)), (1, 3, 8, 5), [*BORDER, "MAX_POOL_2D"], id="rectangular"),
    pytest.param(nn.MaxPool2d(1, 2), (1, 3, 8, 8), ["MAX_POOL_2D"], id="1x1-stride-2"),
    pytest.param(nn.MaxPool2d(3, 2, 1), (2, 3, 9, 8), ["SLICE", *BORDER, *BORDER, "MAX_POOL_2D"], id="batch-2"),
    pytest.param(
        lambda x: F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=float("-inf")), 3, 2),
        (1, 3, 8, 8),
        ["MAX_POOL_2D"],
        id="tf-same-even-size",
    ),
    pytest.param(
        lambda x: F.max_pool2d(F.pad(x, (1, 0, 0, 0), value=float("-inf")), 3, 2),
        (1, 3, 9, 8),
        [*BORDER, "MAX_POOL_2D"],
        id="pad-left-alone",
    ),
    pytest.param(
        lambda x: F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 2), (1, 3, 8, 8), ["PAD", "MAX_POOL_2D"], id="zero-pad-stays"
    ),
]


@pytest.mark.parametrize(("model", "shape", "ops"), CASES)
def test_float(model, shape, ops):
    assert check_float(model, image(*shape)).ops == ops


@pytest.mark.parametrize(("model", "shape", "ops"), CASES)
def test_int8(model, shape, ops):
    assert check_int8(model, image(*shape)).ops == ops


@pytest.mark.parametrize("check", [check_float, check_int8])
@pytest.mark.parametrize("size", [8, 9])
def test_padding_does_not_win_over_negative_values(check, size):
    (result,) = check(nn.MaxPool2d(3, 2, 1), image(1, 3, size, size, low=-9, high=-8)).outputs
    assert (result < 0).all()


def test_dilation_is_refused():
    from exporter.errors import UnsupportedError

    with pytest.raises(UnsupportedError, match="dilation"):
        check_float(nn.MaxPool2d(2, dilation=2), image(1, 3, 8, 8))
