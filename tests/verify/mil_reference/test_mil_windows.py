"""Convolutions, pools, matrix products and normalisations, against torch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from mil_programs import PRECISIONS, check, like, mb
from torch import Tensor
from torch.nn import functional as F

R = np.random.default_rng(7)
X = R.uniform(-1, 1, (1, 6, 9, 8)).astype(np.float32)
W = R.uniform(-1, 1, (4, 6, 3, 3)).astype(np.float32)
GROUPED = R.uniform(-1, 1, (6, 2, 3, 2)).astype(np.float32)
BIAS = R.uniform(-1, 1, 4).astype(np.float32)
UPWARDS = R.uniform(-1, 1, (6, 4, 3, 3)).astype(np.float32)
SUMS = 3e-6
"""Sums of up to 54 products of numbers below one, in float32."""


def exact(array: np.ndarray, precision: str) -> Tensor:
    """A constant as the file stores it, in float64."""
    return torch.from_numpy(array.astype(precision).astype(np.float64))


def check_sums(build: Any, expected: Any, *arrays: np.ndarray, precision: str, **options: Any) -> None:
    """`check`, for results that are sums: they may lie near zero."""
    check(build, expected, *arrays, precision=precision, atol=SUMS if precision == "float32" else 1e-3, **options)


CONVOLUTIONS: dict[str, tuple[dict[str, Any], dict[str, Any], list[int]]] = {
    # MIL attributes, torch's, and torch's padding: left, right, top, bottom
    "valid": ({"pad_type": "valid"}, {}, [0, 0, 0, 0]),
    "no pad type": ({}, {}, [0, 0, 0, 0]),
    "custom": ({"pad_type": "custom", "pad": [1, 1, 1, 1]}, {}, [1, 1, 1, 1]),
    "custom, uneven": ({"pad_type": "custom", "pad": [0, 2, 1, 0]}, {}, [1, 0, 0, 2]),
    "same": ({"pad_type": "same"}, {}, [1, 1, 1, 1]),
    "same, strided": ({"pad_type": "same", "strides": [2, 2]}, {"stride": 2}, [0, 1, 1, 1]),
    "same_lower, strided": ({"pad_type": "same_lower", "strides": [2, 2]}, {"stride": 2}, [1, 0, 1, 1]),
    "dilated": (
        {"pad_type": "custom", "pad": [2, 2, 1, 1], "dilations": [2, 1]},
        {"dilation": (2, 1)},
        [1, 1, 2, 2],
    ),
}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_conv(case: str, precision: str) -> None:
    attributes, torches, pads = CONVOLUTIONS[case]
    check_sums(
        lambda x: mb.conv(x=x, weight=like(x, W), bias=like(x, BIAS), **attributes),
        lambda x: F.conv2d(F.pad(x, pads), exact(W, precision), exact(BIAS, precision), **torches),
        X,
        precision=precision,
        opset="iOS16",
    )


@pytest.mark.parametrize("precision", PRECISIONS)
def test_grouped_conv(precision: str) -> None:
    check_sums(
        lambda x: mb.conv(x=x, weight=like(x, GROUPED), groups=3),
        lambda x: F.conv2d(x, exact(GROUPED, precision), groups=3),
        X,
        precision=precision,
        opset="iOS15",
    )


def test_conv_of_sequences_and_volumes() -> None:
    line, kernel = X[..., 0], W[..., 0]
    check_sums(
        lambda x: mb.conv(x=x, weight=kernel, pad_type="custom", pad=[1, 0]),
        lambda x: F.conv1d(F.pad(x, [1, 0]), exact(kernel, "float32")),
        line,
        precision="float32",
    )
    volume, box = X[:, :, None], W[:, :, None]
    check_sums(
        lambda x: mb.conv(x=x, weight=box),
        lambda x: F.conv3d(x, exact(box, "float32")),
        volume,
        precision="float32",
    )


TRANSPOSED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "valid": ({}, {}),
    "strided": ({"strides": [2, 2]}, {"stride": 2}),
    "custom": ({"strides": [2, 2], "pad_type": "custom", "pad": [1, 1, 1, 1]}, {"stride": 2, "padding": 1}),
    "a row more": (
        {"strides": [2, 2], "pad_type": "custom", "pad": [1, 0, 1, 0]},
        {"stride": 2, "padding": 1, "output_padding": 1},
    ),
    "output shape": (
        {"strides": [2, 2], "pad_type": "custom", "pad": [1, 1, 1, 1], "output_shape": [1, 4, 18, 16]},
        {"stride": 2, "padding": 1, "output_padding": 1},
    ),
    "dilated": ({"dilations": [2, 2]}, {"dilation": 2}),
}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", TRANSPOSED)
def test_conv_transpose(case: str, precision: str) -> None:
    attributes, torches = TRANSPOSED[case]
    check_sums(
        lambda x: mb.conv_transpose(x=x, weight=like(x, UPWARDS), bias=like(x, BIAS), **attributes),
        lambda x: F.conv_transpose2d(x, exact(UPWARDS, precision), exact(BIAS, precision), **torches),
        X,
        precision=precision,
    )


POOLS: dict[str, tuple[dict[str, Any], dict[str, Any], list[int]]] = {
    "valid": ({"pad_type": "valid"}, {}, [0, 0, 0, 0]),
    "strided": ({"pad_type": "valid", "strides": [2, 2]}, {"stride": 2}, [0, 0, 0, 0]),
    "custom, uneven": ({"pad_type": "custom", "pad": [0, 1, 2, 0]}, {}, [2, 0, 0, 1]),
    "same, strided": ({"pad_type": "same", "strides": [2, 2]}, {"stride": 2}, [0, 1, 1, 1]),
    "same_lower, strided": ({"pad_type": "same_lower", "strides": [2, 2]}, {"stride": 2}, [1, 0, 1, 1]),
}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", POOLS)
def test_max_pool(case: str, precision: str) -> None:
    attributes, torches, pads = POOLS[case]
    check(
        lambda x: mb.max_pool(x=x, kernel_sizes=[3, 3], **attributes),
        lambda x: F.max_pool2d(F.pad(x, pads, value=-math.inf), 3, **({"stride": 1} | torches)),
        X - 2,
        precision=precision,
        opset="iOS16",
    )


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("excluded", [False, True], ids=["zeros count", "zeros do not count"])
@pytest.mark.parametrize("case", POOLS)
def test_avg_pool(case: str, excluded: bool, precision: str) -> None:
    attributes, torches, pads = POOLS[case]
    options = {"stride": 1} | torches

    def expected(x: Tensor) -> Tensor:
        counted = F.pad(torch.ones_like(x), pads, value=0.0 if excluded else 1.0)
        return F.avg_pool2d(F.pad(x, pads), 3, **options) / F.avg_pool2d(counted, 3, **options)

    check_sums(
        lambda x: mb.avg_pool(x=x, kernel_sizes=[3, 3], exclude_padding_from_average=excluded, **attributes),
        expected,
        X,
        precision=precision,
        opset="iOS16",
    )


@pytest.mark.parametrize("size", [8, 9, 10, 11])
@pytest.mark.parametrize("excluded", [False, True], ids=["zeros count", "zeros do not count"])
@pytest.mark.parametrize(("kernel", "stride", "pad"), [(2, 2, 0), (3, 2, 1), (3, 3, 1), (2, 3, 1)])
def test_ceil_mode_is_torchs(size: int, excluded: bool, kernel: int, stride: int, pad: int) -> None:
    x = X[..., :1, :1] + np.linspace(-1, 1, size * size, dtype=np.float32).reshape(size, size)
    attributes: dict[str, Any] = {"kernel_sizes": [kernel] * 2, "strides": [stride] * 2, "ceil_mode": True}
    attributes |= {"pad_type": "custom", "pad": [pad] * 4} if pad else {"pad_type": "valid"}
    check(
        lambda x: [
            mb.max_pool(x=x, **attributes),
            mb.avg_pool(x=x, exclude_padding_from_average=excluded, **attributes),
        ],
        lambda x: [
            F.max_pool2d(x, kernel, stride, pad, ceil_mode=True),
            F.avg_pool2d(x, kernel, stride, pad, ceil_mode=True, count_include_pad=not excluded),
        ],
        x,
    )


def test_pools_of_sequences() -> None:
    check(
        lambda x: [
            mb.max_pool(x=x, kernel_sizes=[3], strides=[2], pad_type="custom", pad=[1, 1]),
            mb.avg_pool(x=x, kernel_sizes=[3], strides=[2], pad_type="custom", pad=[1, 1]),
        ],
        lambda x: [F.max_pool1d(x, 3, 2, 1), F.avg_pool1d(x, 3, 2, 1)],
        X[..., 0],
    )


@pytest.mark.parametrize("precision", PRECISIONS)
def test_linear(precision: str) -> None:
    weight = W.reshape(4, 54)
    check_sums(
        lambda x: mb.linear(x=x, weight=like(x, weight), bias=like(x, BIAS)),
        lambda x: x @ exact(weight, precision).T + exact(BIAS, precision),
        X.reshape(8, 54),
        precision=precision,
    )


@pytest.mark.parametrize("flags", [(False, False), (True, False), (False, True), (True, True)])
def test_matmul(flags: tuple[bool, bool]) -> None:
    x, y = X[0, :2, :5, :4], X[0, 2:4, :4, :6]
    a, b = (np.ascontiguousarray(v.swapaxes(-1, -2)) if f else v for v, f in zip((x, y), flags, strict=True))
    check_sums(
        lambda a, b: mb.matmul(x=a, y=b, transpose_x=flags[0], transpose_y=flags[1]),
        lambda *_: torch.from_numpy(x.astype(np.float64) @ y),
        a,
        b,
        precision="float32",
    )


def test_einsum() -> None:
    x, y = X[:, :3, :4, :5], X[:, :5, :4, :2]
    check_sums(
        lambda x, y: mb.einsum(values=(x, y), equation="nchw,nwhu->nchu"),
        lambda x, y: torch.einsum("nchw,nwhu->nchu", x, y),
        x,
        y,
        precision="float32",
    )


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("axes", [[0, 1, 2, 3], [1], [3], [2, 3], [-1], [1, 2, 3]], ids=str)
def test_layer_norm(axes: list[int], precision: str) -> None:
    over = axes
    shape = [size if axis in [a % 4 for a in over] else 1 for axis, size in enumerate(X.shape)]
    factor = np.linspace(0.5, 2, math.prod(shape), dtype=np.float32)
    kept = [X.shape[a] for a in sorted(a % 4 for a in over)]

    def build(x: Any) -> Any:
        scale: dict[str, Any] = {"gamma": like(x, factor.reshape(kept)), "beta": like(x, factor.reshape(kept) - 1)}
        scale["axes"] = axes
        return mb.layer_norm(x=x, epsilon=like(x, 0.001), **scale)

    def expected(x: Tensor) -> Tensor:
        centred = x - x.mean(over, keepdim=True)
        normal = centred / (centred.square().mean(over, keepdim=True) + 0.001).sqrt()
        return normal * exact(factor, precision).reshape(shape) + exact(factor - 1, precision).reshape(shape)

    check_sums(build, expected, X, precision=precision)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_batch_norm(precision: str) -> None:
    mean, variance, gamma, beta = R.uniform(0.5, 1.5, (4, 6)).astype(np.float32)

    def build(x: Any) -> Any:
        moments = {"mean": like(x, mean), "variance": like(x, variance)}
        return mb.batch_norm(x=x, gamma=like(x, gamma), beta=like(x, beta), epsilon=like(x, 0.001), **moments)

    check_sums(
        build,
        lambda x: F.batch_norm(x, *(exact(v, precision) for v in (mean, variance, gamma, beta)), eps=0.001),
        X,
        precision=precision,
    )


def test_instance_norm() -> None:
    check_sums(
        lambda x: mb.instance_norm(x=x, epsilon=1e-3), lambda x: F.instance_norm(x, eps=1e-3), X, precision="float32"
    )


@pytest.mark.parametrize("masked", [False, True])
def test_attention(masked: bool) -> None:
    query, key, value = (X[:, :2, :5, :4], X[:, 2:4, :6, :4], X[:, 4:6, :6, :3])
    mask = np.tri(5, 6, dtype=bool)
    more = {"attn_mask": mask} if masked else {}
    check_sums(
        lambda q, k, v: mb.scaled_dot_product_attention(query=q, key=k, value=v, **more),
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, torch.from_numpy(mask) if masked else None),
        query,
        key,
        value,
        precision="float32",
        opset="iOS18",
    )
