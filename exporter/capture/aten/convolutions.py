"""Convolutions, transposed and of one dimension."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from exporter.capture.aten.table import Builder, Unsupported, aten, pair, require_batch, require_constants
from exporter.ir.graph import Value
from exporter.ir.ops import Pair


@aten("conv2d")
def conv2d(
    b: Builder, x: Value, weight: Value, bias: Value | None = None,
    stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Value:  # fmt: skip
    """Padding `same` is torch's: the larger half at the end."""
    require_batch(x)
    require_constants(weight, bias)
    k, d = weight.shape[2:], pair(dilation)
    if isinstance(padding, str):
        total = [d[i] * (k[i] - 1) if padding == "same" else 0 for i in (0, 1)]
        pads = (total[0] // 2, total[0] - total[0] // 2, total[1] // 2, total[1] - total[1] // 2)
    else:
        ph, pw = pair(padding)
        pads = (ph, ph, pw, pw)
    bias = bias or b.absent(0.0, weight)
    return b.emit(
        "conv2d", x, weight, bias, stride=pair(stride), padding=pads, dilation=d, groups=groups, activation="none"
    )  # fmt: skip


@aten("convolution")
def convolution(
    b: Builder, x: Value, weight: Value, bias: Value | None, stride: Any, padding: Any, dilation: Any,
    transposed: bool, output_padding: Any, groups: int,
) -> Value:  # fmt: skip
    """The decomposed spelling."""
    if len(weight.shape) != 4:
        raise Unsupported("only 2-D convolutions")
    if transposed:
        return conv_transpose2d(b, x, weight, bias, stride, padding, output_padding, groups, dilation)
    return conv2d(b, x, weight, bias, stride, padding, dilation, groups)


@aten("conv1d")
def conv1d(
    b: Builder, x: Value, weight: Value, bias: Value | None = None,
    stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Value:  # fmt: skip
    """[N, C, L] as an image of one row."""
    if len(x.shape) != 3:
        raise Unsupported(f"an input of rank {len(x.shape)}: only [N, C, L]")
    require_constants(weight, bias)
    assert weight.const is not None
    padding = padding if isinstance(padding, str) else (0, pair(padding)[0])
    image = b.emit("reshape", x, shape=(*x.shape[:2], 1, x.shape[2]))
    taps = b.constant(weight.const.unsqueeze(2))
    y = conv2d(b, image, taps, bias, (1, pair(stride)[0]), padding, (1, pair(dilation)[0]), groups)
    return b.emit("reshape", y, shape=(*y.shape[:2], y.shape[3]))


@aten("conv_transpose2d")
def conv_transpose2d(
    b: Builder, x: Value, weight: Value, bias: Value | None = None,
    stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Value:  # fmt: skip
    """Groups and dilation become zeros in the weight: XNNPACK has neither, and the whole kernel is what it costs."""
    require_batch(x)
    require_constants(weight, bias)
    assert weight.const is not None
    taps = b.constant(_dense(weight.const, groups, pair(dilation)))
    (ph, pw), (oh, ow) = pair(padding), pair(output_padding)
    return b.emit(
        "conv_transpose2d", x, taps, bias or b.absent(0.0, taps), stride=pair(stride),
        padding=(ph, ph - oh, pw, pw - ow), activation="none",
    )  # fmt: skip


def _dense(weight: Tensor, groups: int, dilation: Pair) -> Tensor:
    """[I, O/groups, kh, kw], as torch stores it -> [O, I, kh', kw'] without groups and dilation."""
    inputs, per_group, kh, kw = weight.shape
    dense = torch.zeros(per_group * groups, inputs, dilation[0] * (kh - 1) + 1, dilation[1] * (kw - 1) + 1)
    for group, part in enumerate(weight.chunk(groups)):
        rows = slice(group * per_group, (group + 1) * per_group)
        columns = slice(group * len(part), (group + 1) * len(part))
        dense[rows, columns, :: dilation[0], :: dilation[1]] = part.transpose(0, 1)
    return dense
