"""RepVGG (Ding et al., CVPR 2021, arXiv:2101.03697, section 3) as it is trained: three branches a block."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

A0 = ((1, 48), (2, 48), (4, 96), (14, 192), (1, 1280))
"""Blocks and width of each stage, the stem first (tables 2 and 3, width multipliers 0.75 and 2.5)."""


class Block(nn.Module):
    """ReLU of a 3x3 convolution, a 1x1 convolution and, where input and output are alike, the input: each with BN."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.dense = nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs))
        self.pointwise = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.identity = nn.BatchNorm2d(outputs) if inputs == outputs and stride == 1 else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.dense(x) + self.pointwise(x)
        return (y if self.identity is None else y + self.identity(x)).relu()


class RepVGG(nn.Module):
    """Image [N, 3, H, W] -> logits [N, classes]; every stage begins with stride 2."""

    def __init__(self, stages: Sequence[tuple[int, int]] = A0, classes: int = 1000) -> None:
        super().__init__()
        blocks, channels = [], 3
        for depth, width in stages:
            for i in range(depth):
                blocks.append(Block(channels, width, 2 if i == 0 else 1))
                channels = width
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))
