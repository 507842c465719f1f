"""A MobileViT: inverted residuals, and blocks that look at all pixels of one place in 2x2 patches with attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from vit import Block, Fused


def conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, BatchNorm, SiLU."""
    padding = kernel // 2
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.SiLU(),
    )


class Inverted(nn.Module):
    """MobileNetV2's block."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        inner = 2 * inputs
        self.layers = nn.Sequential(
            conv(inputs, inner), conv(inner, inner, 3, stride, inner), nn.Conv2d(inner, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )  # fmt: skip
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.shortcut else self.layers(x)


class MobileViTBlock(nn.Module):
    """A map to tokens [N·patch², patches, width], transformer blocks, and back."""

    def __init__(self, channels: int, width: int, depth: int, heads: int = 4, patch: int = 2) -> None:
        super().__init__()
        self.patch = patch
        self.local = nn.Sequential(conv(channels, channels, 3), nn.Conv2d(channels, width, 1, bias=False))
        self.blocks = nn.Sequential(*[Block(width, heads, Fused) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.project, self.fuse = conv(width, channels), conv(2 * channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        y, p = self.local(x), self.patch
        n, c, height, width = y.shape
        rows, columns = height // p, width // p
        y = y.reshape(n * c * rows, p, columns, p).transpose(1, 2)
        y = y.reshape(n, c, rows * columns, p * p).transpose(1, 3).reshape(n * p * p, rows * columns, c)
        y = self.norm(self.blocks(y))
        y = y.reshape(n, p * p, rows * columns, c).transpose(1, 3)
        y = y.reshape(n * c * rows, columns, p, p).transpose(1, 2).reshape(n, c, height, width)
        return self.fuse(torch.cat([x, self.project(y)], 1))


class MobileViT(nn.Module):
    """Image [N, 3, H, W] to logits [N, classes]."""

    def __init__(self, channels: int = 64, width: int = 96, depth: int = 1, classes: int = 100) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv(3, 16, 3, 2), Inverted(16, 32, 2), Inverted(32, channels, 2),
            MobileViTBlock(channels, width, depth), conv(channels, 4 * channels),
        )  # fmt: skip
        self.head = nn.Linear(4 * channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(x).mean((2, 3)))
