"""Padding: when TFLite's own SAME or VALID says what the node's pads say, and when an explicit pad is needed."""

from __future__ import annotations

from dataclasses import dataclass

from exporter.ir.graph import Node
from exporter.ir.ops import Pads


@dataclass(frozen=True)
class Window:
    """How a convolution or pool is written: SAME or VALID, after `explicit` pads (top, bottom, left, right)."""

    stride: tuple[int, int]
    same: bool
    explicit: Pads = (0, 0, 0, 0)


def same_pads(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """TFLite's SAME: output ceil(size / stride); the smaller half of the padding comes first."""
    total = max((-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
    return total // 2, total - total // 2


def reached(size: int, before: int, after: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """The pads without what lies behind the last window: k3 s2 p1 reads (1, 0) on even sizes."""
    extent = dilation * (kernel - 1) + 1
    last = (size + before + after - extent) // stride * stride
    return before, max(last + extent - size - before, 0)


def window_of(node: Node) -> Window:
    """The window of a conv2d, max_pool2d or avg_pool2d node.

    Asymmetric and symmetric pads equal SAME only for some sizes: k3 s2 p1 equals it on odd sizes alone.
    """
    stride, (top, bottom, left, right) = node.attrs["stride"], node.attrs["padding"]
    kernel = node.attrs.get("kernel") or node.inputs[1].shape[2:]
    dilation = node.attrs.get("dilation", (1, 1))
    size = node.inputs[0].shape[2:]
    rows = reached(size[0], top, bottom, kernel[0], stride[0], dilation[0])
    padding = rows + reached(size[1], left, right, kernel[1], stride[1], dilation[1])
    if not any(padding):
        return Window(stride, same=False)
    if padding == same_pads(size[0], kernel[0], stride[0], dilation[0]) + same_pads(
        size[1], kernel[1], stride[1], dilation[1]
    ):
        return Window(stride, same=True)
    return Window(stride, same=False, explicit=padding)
