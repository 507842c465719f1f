"""EfficientNet without its classification head: the backbone of EfficientDet.

Source: Tan & Le, EfficientNet (ICML 2019), tables 1 and §3.3; google/automl `efficientnet_builder.py` for the Lite
rules. Module names are timm's, so official EfficientDet checkpoints load.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from exporter.build.layers import Padding, conv2d

Activation = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Stage:
    """One row of EfficientNet-B0: kernel, stride of the first block, expansion, output channels, repeats."""

    kernel: int
    stride: int
    expansion: int
    channels: int
    repeats: int


STAGES = (
    Stage(3, 1, 1, 16, 1),
    Stage(3, 2, 6, 24, 2),
    Stage(5, 2, 6, 40, 2),
    Stage(3, 2, 6, 80, 3),
    Stage(5, 1, 6, 112, 3),
    Stage(5, 2, 6, 192, 4),
    Stage(3, 1, 6, 320, 1),
)

# The last stage of each stride: its output is C1..C5 (stride 2..32).
FEATURE_STAGES = {1: 0, 2: 1, 3: 2, 4: 4, 5: 6}


@dataclass(frozen=True)
class Scaling:
    """Width and depth multipliers of B0. Lite: no squeeze-and-excite, ReLU6, stem and end stages not scaled."""

    width: float
    depth: float
    lite: bool = False

    @property
    def activation(self) -> Activation:
        return F.relu6 if self.lite else F.silu

    def channels(self, base: int) -> int:
        """Nearest multiple of 8 that loses at most 10 %."""
        scaled = base * self.width
        rounded = max(8, int(scaled + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * scaled else rounded

    def repeats(self, stage: int) -> int:
        if self.lite and stage in (0, len(STAGES) - 1):
            return STAGES[stage].repeats
        return math.ceil(STAGES[stage].repeats * self.depth)


SCALINGS = {
    "b0": Scaling(1.0, 1.0),
    "b1": Scaling(1.0, 1.1),
    "b2": Scaling(1.1, 1.2),
    "b3": Scaling(1.2, 1.4),
    "b4": Scaling(1.4, 1.8),
    "b5": Scaling(1.6, 2.2),
    "b6": Scaling(1.8, 2.6),
    "b7": Scaling(2.0, 3.1),
    "lite0": Scaling(1.0, 1.0, lite=True),
    "lite1": Scaling(1.0, 1.1, lite=True),
    "lite2": Scaling(1.1, 1.2, lite=True),
    "lite3": Scaling(1.2, 1.4, lite=True),
    "lite4": Scaling(1.4, 1.8, lite=True),
}


class SqueezeExcite(nn.Module):
    """Channel gate: mean over H and W -> 1x1 -> activation -> 1x1 -> sigmoid -> multiply."""

    def __init__(self, channels: int, reduced: int, act: Activation) -> None:
        super().__init__()
        self.conv_reduce = nn.Conv2d(channels, reduced, 1)
        self.conv_expand = nn.Conv2d(reduced, channels, 1)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        gate = self.conv_reduce(x.mean((2, 3), keepdim=True))
        return x * self.conv_expand(self.act(gate)).sigmoid()


class DepthwiseSeparable(nn.Module):
    """The block of stage 0: depthwise -> BN -> act -> SE -> pointwise -> BN, residual where the shapes allow."""

    def __init__(self, inputs: int, outputs: int, stage: Stage, stride: int, config: Config) -> None:
        super().__init__()
        self.conv_dw = conv2d(inputs, inputs, stage.kernel, stride=stride, groups=inputs, padding=config.padding)
        self.bn1 = nn.BatchNorm2d(inputs, config.eps)
        self.se = config.gate(inputs, inputs)
        self.conv_pw = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs, config.eps)
        self.act = config.scaling.activation
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.se(self.act(self.bn1(self.conv_dw(x))))
        y = self.bn2(self.conv_pw(y))
        return x + y if self.residual else y


class InvertedResidual(nn.Module):
    """MBConv: pointwise expansion -> depthwise -> SE -> linear pointwise, residual where the shapes allow."""

    def __init__(self, inputs: int, outputs: int, stage: Stage, stride: int, config: Config) -> None:
        super().__init__()
        hidden = inputs * stage.expansion
        self.conv_pw = nn.Conv2d(inputs, hidden, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden, config.eps)
        self.conv_dw = conv2d(hidden, hidden, stage.kernel, stride=stride, groups=hidden, padding=config.padding)
        self.bn2 = nn.BatchNorm2d(hidden, config.eps)
        self.se = config.gate(hidden, inputs)
        self.conv_pwl = nn.Conv2d(hidden, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs, config.eps)
        self.act = config.scaling.activation
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.bn1(self.conv_pw(x)))
        y = self.se(self.act(self.bn2(self.conv_dw(y))))
        y = self.bn3(self.conv_pwl(y))
        return x + y if self.residual else y


@dataclass(frozen=True)
class Config:
    """What every block of one backbone shares."""

    scaling: Scaling
    padding: Padding
    eps: float

    def gate(self, channels: int, block_inputs: int) -> nn.Module:
        """The SE bottleneck is a quarter of the block's *input* channels, not of the expanded ones."""
        if self.scaling.lite:
            return nn.Identity()
        return SqueezeExcite(channels, block_inputs // 4, self.scaling.activation)


class EfficientNet(nn.Module):
    """Backbone named as in `SCALINGS`.

    forward: [N, 3, H, W] -> C1..C5 of the levels asked for (level l has stride 2^l and `channels[l]` channels), each
    taken after the last linear BatchNorm of its stride.
    """

    def __init__(self, name: str, levels: tuple[int, ...], padding: Padding, eps: float) -> None:
        super().__init__()
        config = Config(SCALINGS[name], padding, eps)
        width = 32 if config.scaling.lite else config.scaling.channels(32)
        self.conv_stem = conv2d(3, width, 3, stride=2, padding=padding)
        self.bn1 = nn.BatchNorm2d(width, eps)
        self.act = config.scaling.activation
        self.blocks = nn.ModuleList()
        for index, stage in enumerate(STAGES):
            block = DepthwiseSeparable if stage.expansion == 1 else InvertedResidual
            blocks: list[nn.Module] = []
            for repeat in range(config.scaling.repeats(index)):
                outputs = config.scaling.channels(stage.channels)
                blocks.append(block(width, outputs, stage, stage.stride if repeat == 0 else 1, config))
                width = outputs
            self.blocks.append(nn.Sequential(*blocks))
        self.taps = {FEATURE_STAGES[level]: level for level in levels}
        self.channels = {level: config.scaling.channels(STAGES[stage].channels) for stage, level in self.taps.items()}

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        x = self.act(self.bn1(self.conv_stem(x)))
        for index, stage in enumerate(self.blocks):
            x = stage(x)
            if index in self.taps:
                features.append(x)
        return features
