"""ResNet and RegNet at realistic widths and small depth: image to logits."""

from __future__ import annotations

import torch.nn.functional as F
from mobilenets import Classifier, SqueezeExcite, unit
from torch import Tensor, nn


class Bottleneck(nn.Module):
    """1x1, 3x3 (in groups), gate, 1x1; ReLU behind the sum. `average` halves the shortcut by a pool (ResNet-D)."""

    def __init__(
        self, inputs: int, hidden: int, outputs: int, stride: int, groups: int = 1, gated: bool = False,
        average: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        gate = [SqueezeExcite(hidden, inputs // 4, nn.Sigmoid)] if gated else []
        self.layers = nn.Sequential(
            unit(inputs, hidden), unit(hidden, hidden, 3, stride, groups), *gate, unit(hidden, outputs, act=None)
        )
        pool = [nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False)] if average and stride > 1 else []
        projection = [*pool, unit(inputs, outputs, stride=1 if pool else stride, act=None)]
        self.shortcut = nn.Sequential(*(projection if stride > 1 or inputs != outputs else []))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.layers(x) + self.shortcut(x))


def resnet(average: bool = False) -> nn.Module:
    """7x7 stem, max-pool, bottlenecks of expansion 4. He et al., CVPR 2016, table 1."""
    body = nn.Sequential(
        unit(3, 64, 7, 2),
        nn.MaxPool2d(3, 2, 1),
        Bottleneck(64, 64, 256, 1),
        Bottleneck(256, 64, 256, 1),
        Bottleneck(256, 128, 512, 2, average=average),
        Bottleneck(512, 128, 512, 1),
    )
    return Classifier(body, 512)


def resnet_d() -> nn.Module:
    """Shortcuts halved by average pools. He et al., CVPR 2019, figure 2c."""
    return resnet(average=True)


def regnet() -> nn.Module:
    """RegNetY-400MF's first stages: groups of 8 channels, gates. Radosavovic et al., CVPR 2020, table 3."""
    rows = [(32, 48, 2), (48, 104, 2), (104, 104, 1), (104, 208, 2), (208, 208, 1)]
    blocks = [Bottleneck(i, o, o, stride, o // 8, gated=True) for i, o, stride in rows]
    return Classifier(nn.Sequential(unit(3, 32, 3, 2), *blocks), 208)
