"""avg_pool2d: windows, counted and uncounted padding, adaptive pools. In int8 a depthwise convolution."""

from __future__ import annotations

import pytest
from parity import check_float, check_int8, image
from torch import nn

POOL, CONV = ["AVERAGE_POOL_2D"], ["DEPTHWISE_CONV_2D"]
UNCOUNTED = {"count_include_pad": False}

CASES = [
    pytest.param(nn.AvgPool2d(2), (1, 3, 8, 8), POOL, CONV, id="2x2"),
    pytest.param(nn.AvgPool2d(2), (1, 3, 9, 7), POOL, CONV, id="2x2-odd-size"),
    pytest.param(nn.AvgPool2d(2), (1, 1, 8, 8), POOL, ["CONV_2D"], id="one-channel"),
    pytest.param(nn.AvgPool2d(3, 1), (1, 3, 8, 8), POOL, CONV, id="3x3-stride-1"),
    pytest.param(nn.AvgPool2d((4, 2), (3, 1)), (1, 3, 10, 5), POOL, CONV, id="rectangular"),
    pytest.param(nn.AvgPool2d(3, 1, 1, **UNCOUNTED), (1, 3, 8, 8), POOL, [*CONV, "MUL"], id="uncounted"),
    pytest.param(nn.AvgPool2d(3, 2, 1, **UNCOUNTED), (1, 3, 9, 9), POOL, [*CONV, "MUL"], id="uncounted-odd-size"),
    pytest.param(
        nn.AvgPool2d(3, 2, 1, **UNCOUNTED),
        (1, 3, 8, 8),
        ["PAD", *POOL, "MUL"],
        ["PAD", *CONV, "MUL"],
        id="uncounted-not-same",
    ),
    pytest.param(nn.AvgPool2d(3, 1, 1), (1, 3, 8, 8), ["PAD", *POOL], CONV, id="counted"),
    pytest.param(nn.AvgPool2d(3, 2, 1), (1, 3, 8, 8), ["PAD", *POOL], ["PAD", *CONV], id="counted-stride-2"),
    pytest.param(nn.AvgPool2d(3, 2, ceil_mode=True), (1, 3, 8, 8), POOL, [*CONV, "MUL"], id="ceil"),
    pytest.param(
        nn.AvgPool2d(3, 2, 1, ceil_mode=True),
        (1, 3, 8, 8),
        ["PAD", *POOL],
        ["PAD", *CONV, "MUL"],
        id="counted-ceil",
    ),
    pytest.param(nn.AvgPool2d(2, 2, ceil_mode=True), (1, 3, 8, 8), POOL, CONV, id="ceil-that-adds-nothing"),
    pytest.param(nn.AvgPool2d(2, divisor_override=3), (1, 3, 8, 8), [*POOL, "MUL"], [*CONV, "MUL"], id="divisor"),
    pytest.param(nn.AvgPool2d(8), (2, 3, 8, 8), POOL * 2, CONV * 2, id="more-than-25-elements"),
    pytest.param(
        nn.AvgPool2d(7, 1, 3, **UNCOUNTED), (1, 3, 8, 9), POOL * 2, [*CONV, "MUL"] * 2, id="uncounted-of-49-elements"
    ),
    pytest.param(nn.AdaptiveAvgPool2d((4, 3)), (1, 3, 8, 12), POOL, CONV, id="adaptive-whole-ratio"),
    pytest.param(nn.AdaptiveAvgPool2d(3), (1, 3, 7, 7), POOL, CONV, id="adaptive-overlapping"),
    pytest.param(
        nn.AdaptiveAvgPool2d((2, 4)),
        (1, 3, 5, 7),
        [*["SLICE"] * 2, *POOL * 2, "CONCATENATION", *["SLICE"] * 4, *POOL * 4, "CONCATENATION"],
        [*["SLICE"] * 2, *CONV * 2, "CONCATENATION", *["SLICE"] * 4, *CONV * 4, "CONCATENATION"],
        id="adaptive-unequal-windows",
    ),
    pytest.param(nn.AdaptiveAvgPool2d((1, 6)), (1, 3, 8, 12), POOL, CONV, id="adaptive-to-one-row"),
]


@pytest.mark.parametrize(("model", "shape", "ops", "_"), CASES)
def test_float(model, shape, ops, _):
    result = check_float(model, image(*shape))
    assert sorted(result.ops) == sorted(ops)
    assert result.outside == ()


@pytest.mark.parametrize(("model", "shape", "_", "ops"), CASES)
def test_int8(model, shape, _, ops):
    result = check_int8(model, image(*shape))
    assert sorted(result.ops) == sorted(ops)
    assert result.outside == ()


@pytest.mark.parametrize(
    ("low", "high"),
    [pytest.param(0, 1, id="positive"), pytest.param(-9, -4, id="negative"), pytest.param(-0.1, 5, id="asymmetric")],
)
def test_int8_ranges(low, high):
    check_int8(nn.AvgPool2d(2), image(1, 3, 8, 8, low=low, high=high))
