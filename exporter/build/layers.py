"""Convolution and max-pool under the two padding conventions: TensorFlow's SAME and PyTorch's symmetric k // 2.

For stride 1 and odd kernels the two are equal, for stride 2 they differ by one pixel when the size is even.
Both give ceil(n / stride) outputs, so level sizes never depend on the convention.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from exporter.errors import UsageError

Padding = Literal["same", "symmetric"]


def require_side(image_size: tuple[int, int], halvings: int) -> None:
    """UsageError unless both sides (in pixels) leave at least one cell after that many halvings.

    Below it the coarsest feature maps are copies of each other and a detector's anchors lose their stride.
    """
    least = 2**halvings
    if min(image_size) < least:
        raise UsageError(
            f"image_size is {image_size[0]}x{image_size[1]}",
            why=f"the backbone halves the image {halvings} times",
            try_=f"sides of at least {least} pixels; they need not be multiples of it",
        )


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Pixels (before, after) that TensorFlow's SAME adds along one axis of `size` pixels; the smaller half first."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _pad_same(x: Tensor, kernel: int, stride: int, value: float) -> tuple[Tensor, tuple[int, int]]:
    """Pad x [N, C, H, W] as SAME; padding that is symmetric is left to the op (second result) and costs no node."""
    top, bottom = same_padding(x.shape[2], kernel, stride)
    left, right = same_padding(x.shape[3], kernel, stride)
    if top == bottom and left == right:
        return x, (top, left)
    return F.pad(x, (left, right, top, bottom), value=value), (0, 0)


class SameConv2d(nn.Conv2d):
    """nn.Conv2d with TensorFlow's SAME padding, computed from the static input size."""

    def forward(self, input: Tensor) -> Tensor:
        x, padding = _pad_same(input, self.kernel_size[0], self.stride[0], 0.0)
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, groups=self.groups)


def conv2d(
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    bias: bool = False,
    padding: Padding,
) -> nn.Conv2d:
    """Square convolution, odd kernel. SAME needs its own class only where it differs from k // 2."""
    if padding == "same" and stride > 1:
        return SameConv2d(inputs, outputs, kernel, stride, groups=groups, bias=bias)
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=bias)


def max_pool_halve(x: Tensor, padding: Padding) -> Tensor:
    """3x3 max-pool, stride 2, [N, C, H, W] -> [N, C, ceil(H/2), ceil(W/2)]; padded pixels count as -inf."""
    if padding == "symmetric":
        return F.max_pool2d(x, 3, 2, 1)
    x, symmetric = _pad_same(x, 3, 2, float("-inf"))
    return F.max_pool2d(x, 3, 2, symmetric)


@torch.no_grad()
def initialise(model: nn.Module) -> None:
    """Variance-preserving normal weights, zero biases, drawn in module order.

    Meant for a model that is exported without trained weights: its activations and outputs then have unit scale
    once BatchNorm statistics are fitted (`checkpoints.refit_batchnorm`). BatchNorm shifts by two standard deviations,
    where SiLU and ReLU6 are nearly linear: around zero a random net of this depth amplifies rounding noise until
    float32 itself is uncertain (EfficientDet-D0 at 512: 96 dB between float32 and float64, 118 dB with the shift).
    """
    for module in model.modules():
        # Meta tensors hold no values to draw, and drawing them takes seconds.
        if isinstance(module, (nn.Conv2d, nn.Linear)) and not module.weight.is_meta:
            fan_in = module.weight[0].numel()
            module.weight.normal_(0.0, fan_in**-0.5)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.BatchNorm2d):
            module.bias.fill_(2.0)
