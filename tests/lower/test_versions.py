"""Operator versions are the lowest that hold what is written: a higher one makes older apps refuse the file."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from parity import check_float, check_int8, image
from torch import nn

from exporter.lower.tflite.versions import SINCE, minimum_runtime, version_of, version_of_rank

X = image(1, 4, 8, 8, low=-2, high=3)
Y = image(1, 4, 8, 8, seed=2)
M = image(3, 6)


def two(f):
    """A model of two inputs."""
    return f, (X, Y)


CASES = {
    # op: (model, inputs), version in float, version in int8; source: TensorFlow's op_version.cc
    "ADD": (*two(torch.add), 1, 2),
    "SUB": (*two(torch.sub), 1, 2),
    "MUL": (*two(torch.mul), 1, 2),
    "MAXIMUM": (*two(torch.maximum), 1, 2),
    "MAXIMUM of rank 5": (*two(lambda a, b: torch.maximum(a[None], b[None, :, :1])), 3, 3),
    "CONV_2D": (nn.Conv2d(4, 3, 3), (X,), 1, 3),
    "CONV_2D grouped": (nn.Conv2d(16, 16, 3, groups=2), (image(1, 16, 6, 6),), 6, 6),
    "DEPTHWISE_CONV_2D": (nn.Conv2d(4, 4, 3, groups=4), (X,), 1, 3),
    "DEPTHWISE_CONV_2D dilated": (nn.Conv2d(4, 4, 3, dilation=2, groups=4), (X,), 2, 3),
    "FULLY_CONNECTED": (nn.Linear(6, 3), (M,), 1, 4),
    "FULLY_CONNECTED of rank 3": (nn.Linear(6, 3), (M[None],), 5, 5),
    "RELU": (torch.relu, (X,), 1, None),
    "RELU6": (F.relu6, (X,), 1, None),
    "LEAKY_RELU": (F.leaky_relu, (X,), 1, 1),
    "LOGISTIC": (torch.sigmoid, (X,), 1, 2),
    "TANH": (torch.tanh, (X,), 1, 2),
    "GELU": (F.gelu, (X,), 1, 2),
    "HARD_SWISH": (F.hardswish, (X,), 1, None),
    "SOFTMAX": (nn.Softmax(-1), (M,), 1, 2),
    "MAX_POOL_2D": (nn.MaxPool2d(2), (X,), 1, 2),
    "AVERAGE_POOL_2D": (nn.AvgPool2d(2), (X,), 1, None),
    "MEAN": (lambda x: x.mean((2, 3)), (X,), 1, 2),
    "RESIZE_NEAREST_NEIGHBOR": (nn.Upsample((9, 9)), (X,), 1, 2),
    "RESIZE_BILINEAR": (nn.Upsample((9, 9), mode="bilinear", align_corners=True), (X,), 1, 2),
    "RESIZE_BILINEAR half pixel": (nn.Upsample((9, 9), mode="bilinear"), (X,), 3, 3),
    "PAD": (nn.ZeroPad2d(1), (X,), 1, 2),
    "PADV2": (nn.ConstantPad2d(1, 0.5), (X,), 1, 2),
    "PAD of rank 5": (lambda x: F.pad(x[None], (1, 1)), (X,), 4, 4),
    "SLICE": (lambda x: x[:, 1:], (X,), 1, 2),
    "SLICE of rank 5": (lambda x: x[None][..., 1:], (X,), 5, 5),
    "STRIDED_SLICE": (lambda x: x[..., ::3], (X,), 1, 2),
    "STRIDED_SLICE of rank 5": (lambda x: x[None][..., ::3], (X,), 4, 4),
    "BATCH_MATMUL": (lambda x: x @ (x * 2).t(), (M,), 1, 2),
    "SQRT": (torch.sqrt, (image(3, 6, low=0.1),), 1, 2),
    "RSQRT": (torch.rsqrt, (image(3, 6, low=0.1),), 1, 2),
    "EXP": (torch.exp, (M,), 1, 2),
    "RESHAPE": (lambda x: x.view(3, 2, 3), (M,), 1, 1),
    "TRANSPOSE": (lambda x: x.t(), (M,), 1, 2),
    "TRANSPOSE of rank 5": (lambda x: x.view(3, 1, 2, 1, 3).permute(4, 1, 2, 3, 0), (M,), 4, 4),
    "CONCATENATION": (lambda x: torch.cat([x.tanh(), x.tanh()], 1), (X,), 1, 2),
}


@pytest.mark.parametrize("case", CASES)
def test_float(case):
    model, inputs, version, _ = CASES[case]
    found = {op.version for op in check_float(model, *inputs).file.ops if op.name == case.split()[0]}
    assert found == {version}


@pytest.mark.parametrize("case", CASES)
def test_int8(case):
    model, inputs, _, version = CASES[case]
    found = {op.version for op in check_int8(model, *inputs).file.ops if op.name == case.split()[0]}
    assert found == ({version} if version else set())


def test_borders():
    ops = check_int8(torch.tanh, X, io="float").file.ops
    assert [(op.name, op.version) for op in ops] == [("QUANTIZE", 1), ("TANH", 2), ("DEQUANTIZE", 2)]


def test_div_is_float_in_every_file():
    model, inputs = two(lambda a, b: a / (b + 2))
    assert {op.version for op in check_float(model, *inputs).file.ops if op.name == "DIV"} == {1}
    assert {op.version for op in check_int8(model, *inputs).file.ops if op.name == "DIV"} == {1}


@pytest.mark.parametrize("op", ["SUB", "DIV"])
def test_broadcasting_beyond_rank_4(op):
    assert version_of_rank(op, [(1, 2, 3, 4, 5), (1, 1, 1, 1, 5)]) == {"SUB": 3, "DIV": 2}[op]
    assert version_of_rank(op, [(1, 2, 3, 4, 5), (1, 2, 3, 4, 5)]) == 1


# --- the release that first runs a file -------------------------------------------------------------------------------
@pytest.mark.parametrize("case", CASES)
def test_every_version_that_is_written_has_its_release(case):
    """`minimum_runtime` raises KeyError for a pair without a fact, so the file could not have been written."""
    model, inputs, *_ = CASES[case]
    for check in (check_float, check_int8):
        assert {(op.name, op.version) for op in check(model, *inputs).file.ops} <= set(SINCE)


def test_the_minimum_is_the_latest_release_among_the_ops():
    assert minimum_runtime({("ADD", 1), ("CONV_2D", 6), ("TANH", 2)}) == "2.9.0"
    assert minimum_runtime({("ADD", 1), ("DIV", 1)}) == "1.6.0"
    assert minimum_runtime({("ADD", 2), ("DIV", 1)}) == "1.14.0"  # 14 comes after 6


def test_an_unknown_pair_is_an_error():
    with pytest.raises(KeyError):
        minimum_runtime({("ADD", 99)})


def test_a_version_is_at_least_what_the_options_ask_for():
    assert version_of("CONV_2D", int8=True) == 3
    assert version_of("CONV_2D", int8=True, at_least=6) == 6
