"""ShuffleNetV2 (Ma et al., ECCV 2018, arXiv:1807.11164, section 4 and figure 3), compact."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTHS = {"0.5x": (48, 96, 192, 1024), "1.0x": (116, 232, 464, 1024), "1.5x": (176, 352, 704, 1024)}
"""Output channels of stages 2, 3 and 4 and of the last convolution (table 5)."""
DEPTHS = (4, 8, 4)
"""Units of stages 2, 3 and 4."""


class ConvNorm(nn.Sequential):
    """Convolution without bias, BatchNorm, ReLU where `act`."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, act: bool = True):
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            *([nn.ReLU(inplace=True)] if act else []),
        )


def channel_shuffle(x: Tensor, groups: int = 2) -> Tensor:
    """[N, C, H, W] -> the same, one channel of each group in turn."""
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


class Unit(nn.Module):
    """Halves of the channels: one passes, one goes through 1x1, 3x3 depthwise, 1x1; joined and shuffled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.branch = nn.Sequential(
            ConvNorm(half, half), ConvNorm(half, half, 3, groups=half, act=False), ConvNorm(half, half)
        )

    def forward(self, x: Tensor) -> Tensor:
        passed, rest = x.chunk(2, dim=1)
        return channel_shuffle(torch.cat((passed, self.branch(rest)), dim=1))


class DownUnit(nn.Module):
    """Both branches see all channels, at stride 2."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.first = nn.Sequential(ConvNorm(inputs, inputs, 3, 2, inputs, act=False), ConvNorm(inputs, half))
        self.second = nn.Sequential(
            ConvNorm(inputs, half), ConvNorm(half, half, 3, 2, half, act=False), ConvNorm(half, half)
        )

    def forward(self, x: Tensor) -> Tensor:
        return channel_shuffle(torch.cat((self.first(x), self.second(x)), dim=1))


class ShuffleNetV2(nn.Module):
    """Image [N, 3, H, W] -> logits [N, classes]."""

    def __init__(self, width: str = "1.0x", depths: tuple[int, ...] = DEPTHS, classes: int = 1000) -> None:
        super().__init__()
        channels = 24
        layers: list[nn.Module] = [ConvNorm(3, channels, 3, 2), nn.MaxPool2d(3, 2, 1)]
        for outputs, depth in zip(WIDTHS[width], depths, strict=False):
            layers += [DownUnit(channels, outputs), *(Unit(outputs) for _ in range(depth - 1))]
            channels = outputs
        self.features = nn.Sequential(*layers, ConvNorm(channels, WIDTHS[width][-1]))
        self.classifier = nn.Linear(WIDTHS[width][-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))
