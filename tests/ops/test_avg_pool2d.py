"""avg_pool2d: windows, counted and uncounted padding, adaptive pools of whole ratios."""

from __future__ import annotations

import pytest
from parity import check_float, check_int8, image, simplified
from torch import nn

from exporter.errors import UnsupportedError
from exporter.lower.tflite import TFLite

CASES = [
    pytest.param(nn.AvgPool2d(2), (1, 3, 8, 8), ["AVERAGE_POOL_2D"], id="2x2"),
    pytest.param(nn.AvgPool2d(2), (1, 3, 9, 7), ["AVERAGE_POOL_2D"], id="2x2-odd-size"),
    pytest.param(nn.AvgPool2d(3, 1), (1, 3, 8, 8), ["AVERAGE_POOL_2D"], id="3x3-stride-1"),
    pytest.param(nn.AvgPool2d((4, 2), (3, 1)), (1, 3, 10, 5), ["AVERAGE_POOL_2D"], id="rectangular"),
    pytest.param(
        nn.AvgPool2d(3, 1, 1, count_include_pad=False), (1, 3, 8, 8), ["AVERAGE_POOL_2D"], id="same-uncounted"
    ),
    pytest.param(
        nn.AvgPool2d(3, 2, 1, count_include_pad=False), (1, 3, 9, 9), ["AVERAGE_POOL_2D"], id="same-stride-2-odd-size"
    ),
    pytest.param(nn.AvgPool2d(3, 1, 1), (1, 3, 8, 8), ["PAD", "AVERAGE_POOL_2D"], id="counted-padding"),
    pytest.param(nn.AvgPool2d(3, 2, 1), (1, 3, 8, 8), ["PAD", "AVERAGE_POOL_2D"], id="counted-padding-stride-2"),
    pytest.param(nn.AdaptiveAvgPool2d((4, 3)), (1, 3, 8, 12), ["AVERAGE_POOL_2D"], id="adaptive-whole-ratio"),
    pytest.param(nn.AdaptiveAvgPool2d((1, 6)), (1, 3, 8, 12), ["AVERAGE_POOL_2D"], id="adaptive-to-one-row"),
    pytest.param(nn.AvgPool2d(8), (2, 3, 8, 8), ["AVERAGE_POOL_2D"], id="whole-image-batch-2"),
]


@pytest.mark.parametrize(("model", "shape", "ops"), CASES)
def test_float(model, shape, ops):
    assert check_float(model, image(*shape)).ops == ops


@pytest.mark.parametrize(("model", "shape", "ops"), CASES)
def test_int8(model, shape, ops):
    assert check_int8(model, image(*shape), least=25).ops == ops


@pytest.mark.parametrize(
    ("low", "high"),
    [pytest.param(0, 1, id="positive"), pytest.param(-9, -4, id="negative"), pytest.param(-0.1, 5, id="asymmetric")],
)
def test_int8_ranges(low, high):
    check_int8(nn.AvgPool2d(2), image(1, 3, 8, 8, low=low, high=high))


def test_uncounted_padding_that_is_not_same_is_refused():
    graph = simplified(nn.AvgPool2d(3, 2, 1, count_include_pad=False), image(1, 3, 8, 8))
    ((node, reason),) = TFLite().unsupported(graph)
    assert node.op.name == "avg_pool2d"
    assert reason == "padding is neither SAME nor VALID, and an explicit pad would be counted"


def test_an_adaptive_pool_of_a_broken_ratio_is_refused():
    with pytest.raises(UnsupportedError, match=r"\[7, 7\] to \[3, 3\] is not a whole ratio"):
        check_float(nn.AdaptiveAvgPool2d(3), image(1, 3, 7, 7))


@pytest.mark.parametrize("pool", [nn.AvgPool2d(3, 2, ceil_mode=True), nn.AvgPool2d(2, divisor_override=3)])
def test_ceil_mode_and_divisor_are_refused(pool):
    with pytest.raises(UnsupportedError, match="ceil_mode or divisor_override"):
        check_float(pool, image(1, 3, 8, 8))
