"""Resizing, against the grid points in the MIL definitions' own examples and against torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mil_programs import PRECISIONS, check, computed, mb, opened
from torch import Tensor
from torch.nn import functional as F

from exporter.errors import UnsupportedError

X = np.sin(np.arange(2 * 3 * 4 * 5, dtype=np.float32)).reshape(2, 3, 4, 5)
LINE = np.array([0, 1], np.float32).reshape(1, 1, 1, 2)
EXAMPLES = {
    ("UNALIGN_CORNERS", 5): [0, 0.1, 0.5, 0.9, 1],
    ("STRICT_ALIGN_CORNERS", 5): [0, 0.25, 0.5, 0.75, 1],
    ("ALIGN_CORNERS", 5): [0, 0.25, 0.5, 0.75, 1],
    ("DEFAULT", 5): [0, 0.4, 0.8, 1, 1],
    ("OFFSET_CORNERS", 5): [0.1, 0.3, 0.5, 0.7, 0.9],
    ("UNALIGN_CORNERS", 6): [0, 0, 1 / 3, 2 / 3, 1, 1],
    ("STRICT_ALIGN_CORNERS", 6): [0, 0.2, 0.4, 0.6, 0.8, 1],
    ("DEFAULT", 6): [0, 1 / 3, 2 / 3, 1, 1, 1],
    ("OFFSET_CORNERS", 6): [1 / 12, 3 / 12, 5 / 12, 7 / 12, 9 / 12, 11 / 12],
    ("ALIGN_CORNERS", 1): [0.5],
    ("STRICT_ALIGN_CORNERS", 1): [0],
}
"""Grid points of an axis 0, 1: those listed with `resize_bilinear`, whose thirds and twelfths are rounded there."""


@pytest.mark.parametrize(("mode", "size"), EXAMPLES, ids=str)
def test_grid_points_of_the_definition(mode: str, size: int) -> None:
    def resized(x: Any) -> Any:
        return mb.resize_bilinear(x=x, target_size_height=1, target_size_width=size, sampling_mode=mode)

    (result,) = computed(resized, LINE, opset="iOS15")
    np.testing.assert_allclose(result.ravel(), EXAMPLES[mode, size], atol=1e-7)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("size", [(8, 10), (12, 5), (7, 9), (3, 4)], ids=str)
def test_resize_bilinear(size: tuple[int, int], aligned: bool, precision: str) -> None:
    mode = "STRICT_ALIGN_CORNERS" if aligned else "UNALIGN_CORNERS"

    def build(x: Any) -> list[Any]:
        height, width = size
        return [
            mb.resize_bilinear(x=x, target_size_height=height, target_size_width=width, sampling_mode=mode),
            mb.resize(x=x, shape=[height, width], resized_dims=np.uint32(2), sampling_mode=mode),
        ]

    def expected(x: Tensor) -> list[Tensor]:
        return [F.interpolate(x, size, mode="bilinear", align_corners=aligned)] * 2

    check(build, expected, X, precision=precision, atol=1e-6 if precision == "float32" else 1e-3)


@pytest.mark.parametrize("opset", ["iOS15", "iOS16"])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("factor", [2, 3, 2.5])
def test_upsample_bilinear(factor: float, aligned: bool, opset: str) -> None:
    factors = {"scale_factor_height": type(factor)(factor), "scale_factor_width": type(factor)(2)}
    check(
        lambda x: mb.upsample_bilinear(x=x, align_corners=aligned, **factors),
        lambda x: F.interpolate(x, (int(4 * factor), 10), mode="bilinear", align_corners=aligned),
        X,
        opset=opset,
        atol=1e-6,
    )


@pytest.mark.parametrize("precision", PRECISIONS)
def test_nearest_by_whole_factors(precision: str) -> None:
    def build(x: Any) -> list[Any]:
        return [
            mb.upsample_nearest_neighbor(x=x, scale_factor_height=2, scale_factor_width=3),
            mb.resize_nearest_neighbor(x=x, target_size_height=8, target_size_width=15),
            mb.resize(x=x, shape=[8, 15], resized_dims=np.uint32(2), interpolation_mode="NEAREST_NEIGHBOR"),
        ]

    def expected(x: Tensor) -> list[Tensor]:
        return [x.repeat_interleave(2, 2).repeat_interleave(3, 3)] * 3

    check(build, expected, X, precision=precision, atol=0)


def test_nearest_by_other_factors() -> None:
    """upsample_nearest_neighbor as torch's nearest, resize_nearest_neighbor as TensorFlow's with half-pixel centres
    (torch's nearest-exact): what coremltools converts to them.
    """

    def build(x: Any) -> list[Any]:
        return [
            mb.upsample_nearest_neighbor(x=x, scale_factor_height=1.75, scale_factor_width=1.4),
            mb.resize_nearest_neighbor(x=x, target_size_height=7, target_size_width=3),
        ]

    check(
        build,
        lambda x: [F.interpolate(x, (7, 7)), F.interpolate(x, (7, 3), mode="nearest-exact")],
        X,
        atol=0,
    )


def test_resize_of_three_axes_and_of_integers() -> None:
    whole = {"interpolation_mode": "NEAREST_NEIGHBOR"}
    check(
        lambda x: mb.resize(x=x, shape=[6, 0, 10], resized_dims=np.uint32(3), **whole),
        lambda x: x.repeat_interleave(2, 1).repeat_interleave(2, 3),
        X,
        atol=0,
    )
    check(
        lambda x: mb.resize(x=x, shape=[4], resized_dims=np.uint32(1), **whole),
        lambda x: x.repeat_interleave(2, 0),
        np.array([3, 9], np.int32),
    )


def test_a_nearest_resize_without_a_rule_is_refused() -> None:
    model = opened(
        lambda x: mb.resize(x=x, shape=[7, 7], resized_dims=np.uint32(2), interpolation_mode="NEAREST_NEIGHBOR"), [X]
    )
    with pytest.raises(UnsupportedError, match="4 -> 7"):
        model.run([X])
