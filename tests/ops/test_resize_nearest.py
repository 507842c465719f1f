"""resize_nearest: source index floor(i * in / out), whole ratios or not."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from parity import check_float, check_int8, image

from exporter.errors import UnsupportedError
from exporter.ir.ops import OPS

DELEGATED = [
    pytest.param((4, 4), (8, 8), 4, id="doubled"),
    pytest.param((3, 5), (12, 10), 4, id="4-and-2-times"),
    pytest.param((4, 4), (32, 32), 6, id="8-times"),
    pytest.param((5, 4), (5, 12), 2, id="wider"),
    pytest.param((5, 4), (15, 4), 3, id="taller"),
    pytest.param((1, 1), (6, 5), 5, id="one-pixel"),
]
CASES = [
    pytest.param((3, 3), (5, 5), id="lite0-3-to-5"),
    pytest.param((4, 4), (7, 7), id="lite2-4-to-7"),
    pytest.param((8, 8), (4, 4), id="halved"),
    pytest.param((7, 7), (3, 5), id="shrunk-by-a-fraction"),
    pytest.param((2, 3), (14, 6), id="7-times"),
    pytest.param((11, 13), (16, 15), id="11x13-to-16x15"),
]


@pytest.mark.parametrize("check", [check_float, check_int8])
@pytest.mark.parametrize(("size", "target", "count"), DELEGATED)
def test_whole_factors_are_joined_rows_and_columns(check, size, target, count):
    result = check(lambda x: F.interpolate(x, target, mode="nearest"), image(2, 3, *size))
    assert set(result.ops) == {"CONCATENATION", "RESHAPE"}
    assert len(result.ops) == count


@pytest.mark.parametrize(("size", "target"), CASES)
def test_float(size, target):
    result = check_float(lambda x: F.interpolate(x, target, mode="nearest"), image(1, 3, *size))
    assert result.ops == ["RESIZE_NEAREST_NEIGHBOR"]


@pytest.mark.parametrize(("size", "target"), CASES)
def test_int8(size, target):
    result = check_int8(lambda x: F.interpolate(x, target, mode="nearest"), image(1, 3, *size))
    assert result.ops == ["RESIZE_NEAREST_NEIGHBOR"]


@pytest.mark.parametrize("check", [check_float, check_int8])
@pytest.mark.parametrize("factor", [2, 4, (2.0, 3.0), 1.5, 0.5])
def test_scale_factor(check, factor):
    check(lambda x: F.interpolate(x, scale_factor=factor, mode="nearest"), image(2, 3, 4, 5))


def test_a_factor_that_samples_other_pixels_than_the_sizes_is_refused():
    """PyTorch picks pixel floor(i / 1.3), every runtime floor(i * 7 / 9)."""
    with pytest.raises(UnsupportedError, match="give the size instead"):
        check_float(lambda x: F.interpolate(x, scale_factor=1.3, mode="nearest"), image(1, 3, 7, 9))


@pytest.mark.parametrize("times", [2, 3, 4, 5, 6, 8, 16, 27, 128])
def test_whole_factors_sample_as_pytorch_does(times):
    """PyTorch multiplies by float32(1 / times); joining is exact."""
    pixels = torch.arange(512.0)
    assert torch.equal(F.interpolate(pixels[None, None], 512 * times)[0, 0], pixels.repeat_interleave(times))


@pytest.mark.parametrize(("source", "target"), [(21, 69), (52, 22)])
def test_int8_sizes_where_torch_rounds_its_index_down_are_float_islands(source, target):
    """The int8 kernel's index is exact, torch's is a float32 product."""
    result = check_int8(lambda x: F.interpolate(x * 2, (target, 8), mode="nearest"), image(1, 2, source, 4))
    assert result.ops == ["MUL", "DEQUANTIZE", "RESIZE_NEAREST_NEIGHBOR", "QUANTIZE"]
    (reason,) = result.islands.values()
    assert reason == f"an int8 resize from {source} to {target} samples other pixels than PyTorch's float index"


def test_a_fixed_range_passes_an_island_unchanged():
    result = check_int8(lambda x: F.interpolate(x.sigmoid(), (69, 8), mode="nearest"), image(1, 2, 21, 4))
    assert result.graph.outputs[0].quant == OPS["sigmoid"].fixed
