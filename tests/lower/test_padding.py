"""SAME, VALID or an explicit pad: every size x kernel x stride x pad, in one file per size, against PyTorch."""

from __future__ import annotations

import itertools

import pytest
import torch
from parity import image, lower, run_float, run_int8, snr

from exporter.ir.check import check
from exporter.ir.graph import Graph
from exporter.lower.tflite.geometry import reached, same_pads
from exporter.quantize import quantize
from exporter.quantize.calibrate import calibrate

SIZES = [4, 5, 6, 7, 8, 9]
KERNELS = [1, 2, 3, 5]
STRIDES = [1, 2, 3]
PADS = [0, 1, 2]


def convolutions(size: int, dilation: int = 1) -> Graph:
    """One input of size x (size + 3), and a convolution for each kernel, stride and pair of pads that fits."""
    graph = Graph(f"sizes{size}")
    x = graph.add_input("x", (1, 2, size, size + 3))
    outputs = {}
    for kernel, stride, before, after in itertools.product(KERNELS, STRIDES, PADS, PADS):
        if size + before + after < dilation * (kernel - 1) + 1:
            continue
        weight = graph.constant("w", torch.randn(2, 2, kernel, kernel))
        bias = graph.constant("b", torch.randn(2))
        outputs[f"k{kernel}s{stride}p{before}{after}"] = graph.emit(
            "conv2d", [x, weight, bias],
            stride=(stride, stride), padding=(before, after, after, before), dilation=(dilation, dilation),
            groups=1, activation="none",
        )  # fmt: skip
    graph.set_outputs(outputs)
    check(graph)
    return graph


def pools(size: int, op: str, pads: list[tuple[int, int]]) -> Graph:
    """The same for a pool; `pads` (before, after) where each is smaller than the kernel."""
    graph = Graph(f"pools{size}")
    x = graph.add_input("x", (1, 2, size, size + 3))
    outputs = {}
    for kernel, stride, (before, after) in itertools.product(KERNELS, STRIDES, pads):
        if size < kernel or max(before, after) >= kernel:
            continue
        attrs = {"kernel": (kernel, kernel), "stride": (stride, stride), "padding": (before, after, after, before)}
        y = graph.emit(op, [x], **attrs)
        outputs[f"k{kernel}s{stride}p{before}{after}"] = y
    graph.set_outputs(outputs)
    check(graph)
    return graph


def compare_float(graph: Graph) -> None:
    x = image(*graph.inputs[0].shape)
    results = zip(graph.output_names, lower(graph, [x]).outputs, run_float(graph, x), strict=True)
    assert {name: snr(ours, theirs) for name, ours, theirs in results if snr(ours, theirs) < 120} == {}


def compare_int8(graph: Graph) -> None:
    x = image(*graph.inputs[0].shape, high=2)
    quantize(graph, calibrate(graph, [(x,)], "minmax"), io="int8")
    run_int8(graph, x)


@pytest.mark.parametrize("compare", [compare_float, compare_int8])
@pytest.mark.parametrize("size", SIZES)
def test_convolutions(size, compare):
    compare(convolutions(size))


@pytest.mark.parametrize("compare", [compare_float, compare_int8])
def test_dilated_convolutions(compare):
    compare(convolutions(7, dilation=2))


@pytest.mark.parametrize("compare", [compare_float, compare_int8])
@pytest.mark.parametrize("size", SIZES)
def test_max_pools(size, compare):
    compare(pools(size, "max_pool2d", list(itertools.product(PADS, PADS))))


@pytest.mark.parametrize("compare", [compare_float, compare_int8])
@pytest.mark.parametrize("size", SIZES)
def test_average_pools(size, compare):
    compare(pools(size, "avg_pool2d", [(0, 0), (0, 1), (1, 1), (1, 2), (2, 2)]))


# --- the rules themselves ---------------------------------------------------------------------------------------------
SAME = [
    pytest.param((8, 3, 1), (1, 1), id="3x3"),
    pytest.param((8, 3, 2), (0, 1), id="3x3-stride-2-even"),
    pytest.param((9, 3, 2), (1, 1), id="3x3-stride-2-odd"),
    pytest.param((8, 5, 2), (1, 2), id="5x5-stride-2-even"),
    pytest.param((8, 2, 1), (0, 1), id="2x2"),
    pytest.param((8, 1, 2), (0, 0), id="1x1-stride-2"),
    pytest.param((8, 3, 1, 2), (2, 2), id="dilated"),
    pytest.param((7, 3, 3), (1, 1), id="stride-3"),
]


@pytest.mark.parametrize(("arguments", "pads"), SAME)
def test_same_is_tensorflows(arguments, pads):
    assert same_pads(*arguments) == pads


REACHED = [
    pytest.param((8, 1, 1, 3, 2), (1, 0), id="the-last-column-is-not-read"),
    pytest.param((9, 1, 1, 3, 2), (1, 1), id="it-is-on-odd-sizes"),
    pytest.param((8, 1, 1, 3, 1), (1, 1), id="stride-1-reads-all"),
    pytest.param((8, 0, 5, 3, 4), (0, 3), id="a-wide-pad"),
    pytest.param((8, 3, 0, 2, 3), (3, 0), id="the-image-itself-is-not-read-to-its-end"),
]


@pytest.mark.parametrize(("arguments", "pads"), REACHED)
def test_pads_that_no_window_reaches_are_left_out(arguments, pads):
    assert reached(*arguments) == pads
