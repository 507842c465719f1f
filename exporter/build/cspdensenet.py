"""CSPDenseNet and CSPPeleeNet, after the paper: its authors released neither weights nor a cfg of them.

Source: Wang et al., CSPNet (CVPRW 2020, arXiv 1911.11929), §3.1, figures 2 and 3, §4.2; Wang et al., Pelee (NeurIPS
2018, arXiv 1804.06882), §2; Huang et al., DenseNet (CVPR 2017, arXiv 1608.06993), table 1.

The papers leave open, and we chose: half of the channels cross the stage (partial ratio 0.5); every unit is
convolution -> BatchNorm -> LeakyReLU 0.1, as in the authors' darknet networks; the first transition of the full form
compresses like the base network's (by half in DenseNet, not at all in PeleeNet) and the last one gives a stage the base
network's width; the average pool stands between concatenation and last transition. Ours against the authors' README,
whose parameters leave BatchNorm out (BFLOPs are 2 x MACs, at 224 x 224):

    CSPPeleeNet                2.83 M   0.888     csppeleenet   2.844 M   0.892  (1.124 with the pool behind)
    CSPDenseNet-201-Elastic   20.17 M   7.13      cspdensenet  21.090 M   8.074  (DenseNet-201's depths, no Elastic)

Against PeleeNet's 1.017 BFLOPs the paper saves 26 % with fusion first and 21 % with fusion last (figure 4), ours 33 %
(0.678) and 25 % (0.767). The README's "CSPDenseNet Ref." (3.48 M, 0.886) and "CSPPeleeNet Ref." (4.10 M, 1.103) and
their b forms stand on a base that no paper describes: they are not built.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from exporter.build.cspnet import ConvUnit, CrossStage, Fusion, Head
from exporter.build.layers import initialise
from exporter.build.registry import ModelInfo, register_model
from exporter.errors import UsageError

SLOPE = 0.1
HALVINGS = 5
Unit = partial(ConvUnit, slope=SLOPE)


class DenseLayer(nn.Module):
    """[x, 3x3(1x1(x))]: `growth` more channels, through 4 times as many (DenseNet-B)."""

    def __init__(self, inputs: int, growth: int, bottleneck: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(Unit(inputs, bottleneck), Unit(bottleneck, growth, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.layer(x)], 1)


class TwoWayDenseLayer(nn.Module):
    """[x, 3x3(1x1(x)), 3x3(3x3(1x1(x)))]: half of `growth` from each way, so that one sees 5x5 pixels (Pelee, §2)."""

    def __init__(self, inputs: int, growth: int, bottleneck: int) -> None:
        super().__init__()
        half = growth // 2
        self.near = nn.Sequential(Unit(inputs, bottleneck), Unit(bottleneck, half, 3))
        self.far = nn.Sequential(Unit(inputs, bottleneck), Unit(bottleneck, half, 3), Unit(half, half, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.near(x), self.far(x)], 1)


class PeleeStem(nn.Module):
    """[N, 3, H, W] -> [N, width, H/4, W/4]: a convolution, then a max-pool beside a strided convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = Unit(3, width, 3, stride=2)
        self.conv2 = nn.Sequential(Unit(width, width // 2), Unit(width // 2, width, 3, stride=2))
        self.pool = nn.MaxPool2d(2)
        self.conv3 = Unit(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        return self.conv3(torch.cat([self.pool(x), self.conv2(x)], 1))


class DenseNetStem(nn.Sequential):
    """[N, 3, H, W] -> [N, width, H/4, W/4]: 7x7 with stride 2, then a max-pool."""

    def __init__(self, width: int) -> None:
        super().__init__(Unit(3, width, 7, stride=2), nn.MaxPool2d(3, 2, 1))


@dataclass(frozen=True)
class Config:
    """A dense network: `depths` layers a stage, the width of their 1x1 units a stage, and the share of channels that a
    transition keeps (`theta`; DenseNet's last stage keeps all)."""

    depths: tuple[int, ...]
    bottlenecks: tuple[int, ...]
    stem: int
    theta: float
    two_way: bool
    growth: int = 32


CSPPELEENET = Config((3, 4, 8, 6), (16, 32, 64, 64), 32, 1.0, two_way=True)
CSPDENSENET = Config((6, 12, 48, 32), (128,) * 4, 64, 0.5, two_way=False)


class CSPDenseBackbone(nn.Module):
    """features: pictures [N, 3, H, W] -> C3, C4, C5: level l has stride 2^l and `channels[l]` channels.

    C3 and C4 are the two joined parts in front of the pool of stages 2 and 3, C5 is the last stage's output.
    Raises UsageError for sides that are no multiple of 32: the 2x2 pools would drop the last row or column.
    """

    def __init__(self, config: Config, image_size: tuple[int, int], fusion: Fusion = "full") -> None:
        super().__init__()
        cell = 2**HALVINGS
        if any(side % cell for side in image_size):
            raise UsageError(
                f"image_size is {image_size[0]}x{image_size[1]}",
                why=f"the network pools by whole windows {HALVINGS} times",
                try_=f"sides that are multiples of {cell} pixels",
            )
        self.stem = PeleeStem(config.stem) if config.two_way else DenseNetStem(config.stem)
        layer = TwoWayDenseLayer if config.two_way else DenseLayer
        stages: list[CrossStage] = []
        width, last = config.stem, len(config.depths) - 1
        for index, (depth, bottleneck) in enumerate(zip(config.depths, config.bottlenecks, strict=True)):
            part = width // 2
            widths = [part + i * config.growth for i in range(depth + 1)]
            grown = width + depth * config.growth
            outputs = grown if index == last else int(config.theta * grown)
            stage = CrossStage(
                width,
                nn.Sequential(*(layer(inputs, config.growth, bottleneck) for inputs in widths[:-1])),
                dense=widths[-1],
                hidden=int(config.theta * widths[-1]),
                outputs=outputs,
                fusion=fusion,
                pool=None if index == last else nn.AvgPool2d(2),
                slope=SLOPE,
            )
            stages.append(stage)
            width = outputs
        self.stages = nn.ModuleList(stages)
        self.channels = {3: stages[1].channels, 4: stages[2].channels, 5: width}

    def features(self, x: Tensor) -> list[Tensor]:
        joined = []
        x = self.stem(x)
        for stage in self.stages:
            assert isinstance(stage, CrossStage)
            joined.append(stage.join(x))
            x = stage.leave(joined[-1])
        return [*joined[1:-1], x]


class CSPDenseNet(CSPDenseBackbone):
    """The classifier. forward: pictures [N, 3, H, W] -> class logits [N, num_classes]."""

    output_names = ("logits",)

    def __init__(self, config: Config, fusion: Fusion, image_size: tuple[int, int], num_classes: int) -> None:
        super().__init__(config, image_size, fusion)
        self.num_classes = num_classes
        self.head = Head(self.channels[5], num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x)[-1])


def _register(name: str, config: Config, note: str, costs: dict[Fusion, tuple[int, float]]) -> None:
    """One model for each fusion; costs: its parameters and GMACs, measured on this build."""
    for fusion, (params, gmacs) in costs.items():
        info = ModelInfo(
            name=name if fusion == "full" else f"{name}_fusion_{fusion}",
            task="classification",
            image_size=(224, 224),
            num_classes=1000,
            params=params,
            gmacs=gmacs,
            source=f"after the CSPNet paper (arXiv 1911.11929): no official weights or cfg exist. {note}",
        )
        register_model(info)(partial(CSPDenseNet, config, fusion))


_register(
    "csppeleenet",
    CSPPELEENET,
    "The authors give 70.9 % top-1 for their own build.",
    {"full": (2_856_488, 0.4461), "first": (2_456_648, 0.3392), "last": (2_013_608, 0.3833)},
)
_register(
    "cspdensenet",
    CSPDENSENET,
    "Depths of DenseNet-201; the authors give figures for CSPDenseNet-201-Elastic only.",
    {"full": (21_131_656, 4.037), "first": (20_764_840, 3.684), "last": (18_859_880, 3.864)},
)
