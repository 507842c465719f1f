"""Convolutions, pools and matrix products.

`pad_type` is valid, custom (`pad`: before and after, per spatial axis), same or same_lower. For same the definitions
state the size of the result (input over stride, rounded up) and that same_lower puts the odd element in front; so same
puts it behind, as TensorFlow does. Their sentence on the padding of each side contradicts that for strides above one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from exporter.verify.runtimes.mil_reference.ops.registry import mil

Pads = list[tuple[int, int]]
_CONVOLUTIONS = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}
_TRANSPOSED = {3: F.conv_transpose1d, 4: F.conv_transpose2d, 5: F.conv_transpose3d}
_MAX_POOLS = {3: F.max_pool1d, 4: F.max_pool2d, 5: F.max_pool3d}


def padding(
    pad_type: str, pad: Sequence[int] | None, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int]
) -> Pads:
    """Elements before and after, per spatial axis; `kernel` with its dilation."""
    if pad_type == "custom" and pad is not None:
        return list(zip(pad[::2], pad[1::2], strict=True))
    if pad_type in ("valid", "custom"):
        return [(0, 0)] * len(sizes)
    totals = [max(0, (math.ceil(n / s) - 1) * s + k - n) for n, k, s in zip(sizes, kernel, strides, strict=True)]
    halves = [(total // 2, total - total // 2) for total in totals]
    return {"same": halves, "same_lower": [(after, before) for before, after in halves]}[pad_type]


def _padded(x: Tensor, pads: Pads, value: float = 0.0) -> Tensor:
    return F.pad(x, [n for pair in reversed(pads) for n in pair], value=value)


@mil()
def conv(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, strides: list[int] | None = None, pad_type: str = "valid",
    pad: list[int] | None = None, dilations: list[int] | None = None, groups: int = 1,
) -> Tensor:  # fmt: skip
    """x [N, C, ...], weight [O, C / groups, ...]."""
    axes = x.dim() - 2
    strides, dilations = strides or [1] * axes, dilations or [1] * axes
    kernel = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    pads = padding(pad_type, pad, x.shape[2:], kernel, strides)
    around = [before for before, _ in pads]
    if any(before != after for before, after in pads):
        x, around = _padded(x, pads), [0] * axes
    return _CONVOLUTIONS[x.dim()](x, weight, bias, strides, around, dilations, groups)


@mil()
def conv_transpose(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, pad: list[int] | None = None,
    output_shape: list[int] | None = None, pad_type: str = "valid", strides: list[int] | None = None,
    dilations: list[int] | None = None, groups: int = 1,
) -> Tensor:  # fmt: skip
    """x [N, C, ...], weight [C, O / groups, ...]; what the padding covers is cut off the full result."""
    axes = x.dim() - 2
    strides, dilations = strides or [1] * axes, dilations or [1] * axes
    full = _TRANSPOSED[x.dim()](x, weight, None, strides, 0, 0, groups, dilations)
    sizes = [n * s for n, s in zip(x.shape[2:], strides, strict=True)]
    if pad_type == "same":
        cut = [((f - n) // 2, f - n - (f - n) // 2) for f, n in zip(full.shape[2:], sizes, strict=True)]
    else:
        cut = padding(pad_type, pad, sizes, [], [])
    if output_shape is not None:
        ends = zip(cut, full.shape[2:], output_shape[2:], strict=True)
        cut = [(before, size - before - wanted) for (before, _), size, wanted in ends]
    result = _padded(full, [(-before, -after) for before, after in cut])
    return result if bias is None else result + bias.reshape(-1, *[1] * axes)


def _pool_pads(
    x: Tensor, kernel: list[int], strides: list[int], pad_type: str, pad: list[int] | None, ceil_mode: bool
) -> tuple[Pads, Pads]:
    """The declared padding, and with what the last windows of `ceil_mode` reach beyond it."""
    sizes = x.shape[2:]
    pads = padding(pad_type, pad, sizes, kernel, strides)
    if not ceil_mode:
        return pads, pads
    reached = []
    for n, k, s, (before, after) in zip(sizes, kernel, strides, pads, strict=True):
        count = math.ceil((n + before + after - k) / s) + 1
        if (count - 1) * s >= n + before and before + after:
            count -= 1
        reached.append((before, max(after, (count - 1) * s + k - n - before)))
    return pads, reached


@mil(exact=True)
def max_pool(
    x: Tensor, kernel_sizes: list[int], strides: list[int] | None = None, pad_type: str = "valid",
    pad: list[int] | None = None, ceil_mode: bool = False,
) -> Tensor:  # fmt: skip
    """Padding never wins."""
    strides = strides or [1] * len(kernel_sizes)
    _, reached = _pool_pads(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    return _MAX_POOLS[x.dim()](_padded(x, reached, -math.inf), kernel_sizes, strides)


@mil()
def avg_pool(
    x: Tensor, kernel_sizes: list[int], strides: list[int] | None = None, pad_type: str = "valid",
    pad: list[int] | None = None, exclude_padding_from_average: bool = False, ceil_mode: bool = False,
) -> Tensor:  # fmt: skip
    """Sums over counts; padding counts as zeros unless it is excluded, what `ceil_mode` adds never counts."""
    strides = strides or [1] * len(kernel_sizes)
    pads, reached = _pool_pads(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    if not any(n for pair in reached for n in pair):
        return _sums(x, kernel_sizes, strides) / math.prod(kernel_sizes)
    ones = torch.ones((1, 1, *x.shape[2:]))
    beyond = [(r[0] - p[0], r[1] - p[1]) for p, r in zip(pads, reached, strict=True)]
    counted = _padded(_padded(ones, pads, 0.0 if exclude_padding_from_average else 1.0), beyond)
    return _sums(_padded(x, reached), kernel_sizes, strides) / _sums(counted, kernel_sizes, strides)


def _sums(x: Tensor, kernel: list[int], strides: list[int]) -> Tensor:
    if x.dim() == 3:
        return F.avg_pool2d(x.unsqueeze(2), [1, *kernel], [1, *strides], divisor_override=1).squeeze(2)
    return {4: F.avg_pool2d, 5: F.avg_pool3d}[x.dim()](x, kernel, strides, divisor_override=1)


@mil()
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [..., I], weight [O, I]."""
    return F.linear(x, weight, bias)


@mil()
def matmul(x: Tensor, y: Tensor, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    """Batches broadcast; a transposition of a vector has no effect."""
    x = x.transpose(-1, -2) if transpose_x and x.dim() > 1 else x
    y = y.transpose(-1, -2) if transpose_y and y.dim() > 1 else y
    return x @ y


@mil()
def einsum(values: list[Tensor], equation: str) -> Tensor:
    """Two operands."""
    return torch.einsum(equation, *values)
