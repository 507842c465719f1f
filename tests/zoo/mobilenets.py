"""MobileNet V2, V3 and V4, EfficientNet and GhostNet at realistic widths and small depth: image to logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from exporter.build.efficientnet import EfficientNet


def unit(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, act: type[nn.Module] | None = nn.ReLU
) -> nn.Sequential:
    """Convolution, BatchNorm, activation."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), *([act()] if act else []))


class Classifier(nn.Module):
    """A body, the mean over its pixels, and a linear layer."""

    def __init__(self, body: nn.Module, width: int, classes: int = 100) -> None:
        super().__init__()
        self.body, self.pool, self.classes = body, nn.AdaptiveAvgPool2d(1), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classes(F.dropout(self.pool(self.body(x)).flatten(1), 0.2, self.training))


class SqueezeExcite(nn.Module):
    """Gate per channel through `gate` (a sigmoid or its piecewise linear form)."""

    def __init__(self, channels: int, reduced: int, gate: type[nn.Module] = nn.Hardsigmoid) -> None:
        super().__init__()
        self.pool, self.gate = nn.AdaptiveAvgPool2d(1), gate()
        self.reduce, self.expand = nn.Conv2d(channels, reduced, 1), nn.Conv2d(reduced, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.expand(F.relu(self.reduce(self.pool(x)), inplace=True)))


class InvertedResidual(nn.Module):
    """Expansion, depthwise, optional gate, linear projection; a shortcut where the shapes allow."""

    def __init__(
        self,
        inputs: int,
        hidden: int,
        outputs: int,
        kernel: int,
        stride: int,
        act: type[nn.Module],
        gated: bool = False,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [unit(inputs, hidden, act=act)] if hidden != inputs else []
        layers.append(unit(hidden, hidden, kernel, stride, hidden, act))
        if gated:
            layers.append(SqueezeExcite(hidden, hidden // 4))
        self.layers = nn.Sequential(*layers, unit(hidden, outputs, act=None))
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.shortcut else self.layers(x)


def mobilenet_v2() -> nn.Module:
    """ReLU6, linear bottlenecks. Sandler et al., CVPR 2018, table 2."""
    rows = [(32, 16, 16, 1), (16, 96, 24, 2), (24, 144, 24, 1), (24, 144, 32, 2), (32, 192, 64, 2), (64, 384, 64, 1)]
    blocks = [InvertedResidual(i, 32 if i == 32 else h, o, 3, s, nn.ReLU6) for i, h, o, s in rows]
    return Classifier(nn.Sequential(unit(3, 32, 3, 2, act=nn.ReLU6), *blocks, unit(64, 320, act=nn.ReLU6)), 320)


def mobilenet_v3() -> nn.Module:
    """Hard swish, gates of hard sigmoids. Howard et al., ICCV 2019, table 2 (small)."""
    body = nn.Sequential(
        unit(3, 16, 3, 2, act=nn.Hardswish),
        InvertedResidual(16, 16, 16, 3, 2, nn.ReLU, gated=True),
        InvertedResidual(16, 72, 24, 3, 2, nn.ReLU),
        InvertedResidual(24, 88, 24, 3, 1, nn.ReLU),
        InvertedResidual(24, 96, 40, 5, 2, nn.Hardswish, gated=True),
        InvertedResidual(40, 240, 40, 5, 1, nn.Hardswish, gated=True),
        unit(40, 288, act=nn.Hardswish),
    )
    return Classifier(body, 288)


class UniversalBottleneck(nn.Module):
    """Depthwise before the expansion, after it, both or neither. Qin et al., ECCV 2024, figure 4."""

    def __init__(self, inputs: int, outputs: int, first: int, middle: int, stride: int, expansion: int = 4) -> None:
        super().__init__()
        hidden = inputs * expansion
        early = stride if not middle else 1
        layers: list[nn.Module] = [unit(inputs, inputs, first, early, inputs, None)] if first else []
        layers.append(unit(inputs, hidden))
        if middle:
            layers.append(unit(hidden, hidden, middle, stride, hidden))
        self.layers = nn.Sequential(*layers, unit(hidden, outputs, act=None))
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) + x if self.shortcut else self.layers(x)


def mobilenet_v4() -> nn.Module:
    """The convolutional small model: fused blocks, then universal inverted bottlenecks."""
    body = nn.Sequential(
        unit(3, 32, 3, 2),
        unit(32, 32, 3, 2),
        unit(32, 96, 3, 2),
        unit(96, 64),
        UniversalBottleneck(64, 96, 5, 5, 2, 3),
        UniversalBottleneck(96, 96, 0, 3, 1, 2),
        UniversalBottleneck(96, 96, 3, 0, 1),
        UniversalBottleneck(96, 96, 0, 0, 1),
        UniversalBottleneck(96, 128, 3, 3, 2),
        unit(128, 480),
    )
    return Classifier(body, 480)


class Deepest(nn.Module):
    """The last feature map of EfficientNet-B0."""

    def __init__(self) -> None:
        super().__init__()
        self.features = EfficientNet("b0", (5,), "symmetric", 1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)[-1]


def efficientnet_b0() -> nn.Module:
    """SiLU and sigmoid gates. Tan and Le, ICML 2019."""
    return Classifier(nn.Sequential(Deepest(), unit(320, 640, act=nn.SiLU)), 640)


class Ghost(nn.Module):
    """Half the channels from a 1x1 convolution, the others by a depthwise one from those."""

    def __init__(self, inputs: int, outputs: int, act: type[nn.Module] | None) -> None:
        super().__init__()
        self.outputs, half = outputs, -(-outputs // 2)
        self.primary, self.cheap = unit(inputs, half, act=act), unit(half, half, 3, groups=half, act=act)

    def forward(self, x: Tensor) -> Tensor:
        y = self.primary(x)
        return torch.cat([y, self.cheap(y)], 1)[:, : self.outputs]


class GhostBottleneck(nn.Module):
    """Two ghost modules, a gate between them, a shortcut of its own convolutions at stride 2."""

    def __init__(self, inputs: int, hidden: int, outputs: int, stride: int, gated: bool) -> None:
        super().__init__()
        down = [unit(hidden, hidden, 3, stride, hidden, None)] if stride > 1 else []
        gate = [SqueezeExcite(hidden, hidden // 4)] if gated else []
        self.layers = nn.Sequential(Ghost(inputs, hidden, nn.ReLU), *down, *gate, Ghost(hidden, outputs, None))
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Sequential(
            unit(inputs, inputs, 3, stride, inputs, None), unit(inputs, outputs, act=None)
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) + self.shortcut(x)


def ghostnet() -> nn.Module:
    """Cheap operations, odd halves cut by a slice. Han et al., CVPR 2020, table 1."""
    rows = [(16, 16, 16, 1, False), (16, 48, 24, 2, False), (24, 72, 24, 1, False), (24, 72, 41, 2, True),
            (41, 121, 41, 1, True)]  # fmt: skip
    return Classifier(nn.Sequential(unit(3, 16, 3, 2), *(GhostBottleneck(*row) for row in rows), unit(41, 240)), 240)
