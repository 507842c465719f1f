"""Our operations are those that coremltools' own builder writes for the same meaning: types, parameters, constants,
element types. Apple's compiler does not run here; that it takes what coremltools writes is the evidence for ours.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import coreml_files
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from coreml_files import listing, specification, written
from parity import image, simplified
from torch import nn

from exporter.ir.graph import Graph
from exporter.quantize import quantize
from exporter.quantize.calibrate import calibrate

mb = coreml_files.builder()
X = (1, 4, 6, 6)
CONV = nn.Conv2d(4, 8, 3, padding=1)
GROUPED = nn.Conv2d(4, 8, 3, 2, groups=2)
GROWN = nn.ConvTranspose2d(4, 6, 4, 2, 1)
LINEAR, NORM = nn.Linear(6, 3), nn.LayerNorm(6)

Build = Callable[[Any, Callable[[Any], np.ndarray]], Any]
"""x and a conversion of constants to its element type -> the result."""


def conv(x, c, layer, **options):
    return mb.conv(x=x, weight=c(layer.weight), bias=c(layer.bias), **options)


CASES: dict[str, tuple[Callable[..., Any], tuple[int, ...], Build]] = {
    "conv-same-relu6": (
        lambda x: F.relu6(CONV(x)), X,
        lambda x, c: mb.relu6(x=conv(x, c, CONV, pad_type="custom", pad=[1, 1, 1, 1])),
    ),
    "conv-asymmetric": (
        lambda x: F.conv2d(F.pad(x, (0, 1, 0, 1)), CONV.weight, CONV.bias, 2), X,
        lambda x, c: conv(x, c, CONV, pad_type="custom", pad=[0, 1, 0, 1], strides=[2, 2]),
    ),
    "conv-groups": (
        lambda x: F.relu(GROUPED(x)), X,
        lambda x, c: mb.relu(x=conv(x, c, GROUPED, strides=[2, 2], groups=2)),
    ),
    "conv-transpose": (
        GROWN, X,
        lambda x, c: mb.conv_transpose(x=x, weight=c(GROWN.weight), bias=c(GROWN.bias), strides=[2, 2],
                                       pad_type="custom", pad=[1, 1, 1, 1]),
    ),
    "linear": (LINEAR, (2, 6), lambda x, c: mb.linear(x=x, weight=c(LINEAR.weight), bias=c(LINEAR.bias))),
    "matmul": (lambda x: x @ x.mT, (1, 5, 6), lambda x, c: mb.matmul(x=x, y=x, transpose_y=True)),
    "layer-norm": (
        NORM, (1, 5, 6),
        lambda x, c: mb.layer_norm(x=x, axes=[2], gamma=c(NORM.weight), beta=c(NORM.bias), epsilon=c(1e-5)),
    ),
    "add-constant": (lambda x: x + 3.0, X, lambda x, c: mb.add(x=x, y=c(3.0))),
    "real-div": (lambda x: x / (x + 2.0), X, lambda x, c: mb.real_div(x=x, y=mb.add(x=x, y=c(2.0)))),
    "sigmoid": (torch.sigmoid, X, lambda x, c: mb.sigmoid(x=x)),
    "tanh": (torch.tanh, X, lambda x, c: mb.tanh(x=x)),
    "silu": (F.silu, X, lambda x, c: mb.silu(x=x)),
    "exp": (torch.exp, X, lambda x, c: mb.exp(x=x)),
    "elu": (F.elu, X, lambda x, c: mb.elu(x=x, alpha=c(1.0))),
    "leaky-relu": (lambda x: F.leaky_relu(x, 0.1), X, lambda x, c: mb.leaky_relu(x=x, alpha=c(0.1))),
    "gelu": (F.gelu, X, lambda x, c: mb.gelu(x=x, mode="EXACT")),
    "gelu-tanh": (lambda x: F.gelu(x, approximate="tanh"), X, lambda x, c: mb.gelu(x=x, mode="TANH_APPROXIMATION")),
    "clip": (lambda x: x.clamp(-0.5, 0.5), X, lambda x, c: mb.clip(x=x, alpha=c(-0.5), beta=c(0.5))),
    "softmax": (lambda x: x.softmax(1), X, lambda x, c: mb.softmax(x=x, axis=1)),
    "max-pool": (
        lambda x: F.max_pool2d(x, 3, 2, 1), X,
        lambda x, c: mb.max_pool(x=x, kernel_sizes=[3, 3], strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1]),
    ),
    "avg-pool": (
        lambda x: F.avg_pool2d(x, 2), X,
        lambda x, c: mb.avg_pool(x=x, kernel_sizes=[2, 2], strides=[2, 2], pad_type="valid",
                                 exclude_padding_from_average=True),
    ),
    "reduce-max": (lambda x: x.amax((2, 3)), X, lambda x, c: mb.reduce_max(x=x, axes=[2, 3], keep_dims=False)),
    "upsample-nearest": (
        lambda x: F.interpolate(x, scale_factor=2), X,
        lambda x, c: mb.upsample_nearest_neighbor(x=x, scale_factor_height=2, scale_factor_width=2),
    ),
    "upsample-bilinear": (
        lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), X,
        lambda x, c: mb.upsample_bilinear(x=x, scale_factor_height=2, scale_factor_width=2, align_corners=False),
    ),
    "resize-bilinear": (
        lambda x: F.interpolate(x, (9, 7), mode="bilinear", align_corners=True), X,
        lambda x, c: mb.resize_bilinear(x=x, target_size_height=9, target_size_width=7,
                                        sampling_mode="STRICT_ALIGN_CORNERS"),
    ),
    "pad": (
        lambda x: F.pad(x, (1, 2, 3, 4), value=0.5), X,
        lambda x, c: mb.pad(x=x, pad=[0, 0, 0, 0, 3, 4, 1, 2], mode="constant", constant_val=c(0.5)),
    ),
    "slice": (
        lambda x: x[:, 1:3], X,
        lambda x, c: mb.slice_by_index(x=x, begin=[0, 1, 0, 0], end=[1, 3, 6, 6], stride=[1, 1, 1, 1]),
    ),
    "reshape": (lambda x: x.reshape(1, 4, 36), X, lambda x, c: mb.reshape(x=x, shape=[1, 4, 36])),
    "transpose": (lambda x: x.permute(0, 2, 3, 1), X, lambda x, c: mb.transpose(x=x, perm=[0, 2, 3, 1])),
    "concat": (lambda x: torch.cat([x, x], 1), X, lambda x, c: mb.concat(values=[x, x], axis=1)),
    "shuffle": (
        nn.ChannelShuffle(2), (1, 6, 5, 5),
        lambda x, c: mb.reshape(x=mb.transpose(x=mb.reshape(x=x, shape=[1, 2, 3, 5, 5]), perm=[0, 2, 1, 3, 4]),
                                shape=[1, 6, 5, 5]),
    ),
    "gather": (lambda x: x[:, [2, 0, 3, 1]], X, lambda x, c: mb.gather(x=x, indices=[2, 0, 3, 1], axis=1)),
    "depth-to-space": (
        lambda x: F.pixel_shuffle(x, 2), X,
        lambda x, c: mb.depth_to_space(x=x, block_size=2),
    ),
}  # fmt: skip


@pytest.mark.parametrize("min_os", [15, 16, 17, 18])
@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("case", CASES)
def test_float(case, precision, min_os, tmp_path):
    model, shape, build = CASES[case]
    graph = simplified(model, image(*shape))
    theirs = coreml_files.built(build, shape, precision, min_os, tmp_path)
    assert ours(graph, precision, min_os) == listing(theirs, tmp_path)


def ours(graph: Graph, precision: str, min_os: int) -> list[Any]:
    with written(graph, precision, min_os) as path:
        folder: Path = path / coreml_files.MODEL.parent / "weights"
        return listing(specification(path).mlProgram, folder)


@pytest.mark.parametrize("min_os", [17, 18])
@pytest.mark.parametrize("arithmetic", ["float32", "float16"])
def test_int8(arithmetic, min_os, tmp_path):
    """A convolution, and a reshape of its codes: the form of reference/coreml.md."""
    x = image(*X)
    graph = simplified(lambda x: CONV(x).reshape(1, 8, 36), x)
    quantize(graph, calibrate(graph, [(x,)], "minmax"), io="float")
    given, (node,) = graph.nodes[0].output.quant, (n for n in graph.nodes if n.op.name == "conv2d")
    weight, bias = node.inputs[1:]
    made = node.output.quant
    assert weight.quant is not None
    assert bias.quant is not None
    scale, codes = np.array(weight.quant.scale), weight.const.numpy()
    real = bias.const.numpy() * np.array(bias.quant.scale)

    def parameters(quant, dtype):
        zero = {"zero_point": np.int8(quant.zero_point)} if quant.zero_point else {}
        return {"scale": np.dtype(dtype).type(quant.scale[0]), **zero}

    def build(x, c):
        q = mb.quantize(input=x, output_dtype="int8", **parameters(given, "float32"))
        y = mb.dequantize(input=q, **parameters(given, arithmetic))
        if min_os == 18:
            filters = mb.constexpr_blockwise_shift_scale(data=codes, scale=c(scale).reshape(-1, 1, 1, 1))
        else:
            filters = mb.constexpr_affine_dequantize(
                quantized_data=codes, scale=c(scale), zero_point=np.zeros(8, np.int8), axis=np.int32(0)
            )
        y = mb.conv(x=y, weight=filters, bias=c(real), pad_type="custom", pad=[1, 1, 1, 1])
        y = mb.quantize(input=y, output_dtype="int8", **parameters(made, arithmetic))
        return mb.dequantize(input=mb.reshape(x=y, shape=[1, 8, 36]), **parameters(made, "float32"))

    theirs = coreml_files.built(build, X, arithmetic, min_os, tmp_path, casts=False)
    with written(graph, "int8", min_os, arithmetic=arithmetic) as path:
        found = listing(specification(path).mlProgram, path / coreml_files.MODEL.parent / "weights")
    assert found == listing(theirs, tmp_path)
