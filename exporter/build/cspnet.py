"""CSPNet in timm's layout: CSPResNet50, CSPResNeXt50 and CSPDarknet53.

Source: Wang et al., CSPNet (CVPRW 2020, arXiv 1911.11929), §3.1 and figure 5; layout, names and weights of timm 1.0.31
`models/cspnet.py`. The authors' own darknet networks differ: another slope, stem and order of the two parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from exporter.build.layers import initialise, require_side
from exporter.build.registry import Checkpoint, ModelInfo, register_model

Fusion = Literal["full", "first", "last"]

SLOPE = 0.01
HALVINGS = 5
FEATURE_LEVELS = (3, 4, 5)
RELEASE = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/"


class ConvUnit(nn.Module):
    """Convolution without bias -> BatchNorm -> LeakyReLU, none where `slope` is 1; odd kernel, padding k // 2."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, *, stride: int = 1, groups: int = 1, slope: float = SLOPE
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return x if self.slope == 1 else F.leaky_relu(x, self.slope)


class CrossStage(nn.Module):
    """A partial stage around any blocks, §3.1: x = [x', x''], of which x'' alone passes the blocks.

    Where the parts meet, figure 3: `full` is transition([x', transition(blocks(x''))]), fusion `first` is
    transition([x', blocks(x'')]), fusion `last` is [x', transition(blocks(x''))]. A transition is a 1x1 unit; `pool`
    comes behind the concatenation.

    forward: [N, width, H, W] -> [N, outputs, ...]. `blocks` takes width // 2 channels and gives `dense`; the full form
    has `hidden` of them behind its first transition.
    """

    def __init__(
        self,
        width: int,
        blocks: nn.Module,
        dense: int,
        hidden: int,
        outputs: int,
        *,
        fusion: Fusion = "full",
        pool: nn.Module | None = None,
        slope: float = SLOPE,
    ) -> None:
        super().__init__()
        cross = width - width // 2
        if fusion == "last" and outputs <= cross:
            raise ValueError(f"fusion last keeps {cross} channels aside: more than {cross} outputs are needed")
        joined = {"full": hidden, "first": dense, "last": outputs - cross}[fusion]
        self.split = [cross, width // 2]
        self.channels = cross + joined
        self.blocks = blocks
        self.conv_transition_b = nn.Identity() if fusion == "first" else ConvUnit(dense, joined, slope=slope)
        self.pool = nn.Identity() if pool is None else pool
        self.conv_transition = nn.Identity() if fusion == "last" else ConvUnit(self.channels, outputs, slope=slope)

    def join(self, x: Tensor) -> Tensor:
        """Both parts behind the blocks, [N, channels, H, W]."""
        cross, part = x.split(self.split, 1)
        return torch.cat([cross, self.conv_transition_b(self.blocks(part))], 1)

    def leave(self, joined: Tensor) -> Tensor:
        """What follows `join`."""
        return self.conv_transition(self.pool(joined))

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.join(x))


class Bottleneck(nn.Module):
    """1x1 -> 3x3 -> linear 1x1, added to the input, then the activation."""

    def __init__(self, inputs: int, hidden: int, groups: int) -> None:
        super().__init__()
        self.conv1 = ConvUnit(inputs, hidden)
        self.conv2 = ConvUnit(hidden, hidden, 3, groups=groups)
        self.conv3 = ConvUnit(hidden, inputs, slope=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x + self.conv3(self.conv2(self.conv1(x))), SLOPE)


class DarkBlock(nn.Module):
    """1x1 -> 3x3, added to the input; no activation behind the sum."""

    def __init__(self, inputs: int, hidden: int, groups: int) -> None:
        super().__init__()
        self.conv1 = ConvUnit(inputs, hidden)
        self.conv2 = ConvUnit(hidden, inputs, 3, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.conv1(x))


@dataclass(frozen=True)
class Stage:
    """One stage: blocks, output channels, channels behind the expansion, and inside a block. `down` is the width of
    the stride-2 convolution in front, None where there is none."""

    depth: int
    outputs: int
    expanded: int
    hidden: int
    down: int | None


@dataclass(frozen=True)
class Config:
    """A network. `stem` is 7x7 with stride 2 and a max-pool for ResNets, 3x3 with stride 1 for Darknet."""

    stages: tuple[Stage, ...]
    resnet: bool
    groups: int = 1

    @property
    def stem(self) -> int:
        return 64 if self.resnet else 32


class ExpandedStage(CrossStage):
    """[3x3 stride 2 ->] 1x1 expansion -> the partial stage. In ResNets the expansion is linear."""

    def __init__(self, inputs: int, stage: Stage, config: Config) -> None:
        half = stage.expanded // 2
        block = Bottleneck if config.resnet else DarkBlock
        blocks = nn.Sequential(*(block(half, stage.hidden, config.groups) for _ in range(stage.depth)))
        super().__init__(stage.expanded, blocks, half, half, stage.outputs)
        self.conv_down = (
            nn.Identity() if stage.down is None else ConvUnit(inputs, stage.down, 3, stride=2, groups=config.groups)
        )
        self.conv_exp = ConvUnit(stage.down or inputs, stage.expanded, slope=1 if config.resnet else SLOPE)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.conv_exp(self.conv_down(x)))


class Stem(nn.Sequential):
    """[N, 3, H, W] -> [N, 64, H/4, W/4] for ResNets, [N, 32, H, W] for Darknet."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        kernel, stride = (7, 2) if config.resnet else (3, 1)
        self.conv1 = ConvUnit(3, config.stem, kernel, stride=stride)
        if config.resnet:
            self.pool = nn.MaxPool2d(3, 2, 1)


class CSPBackbone(nn.Module):
    """features: pictures [N, 3, H, W] -> C3, C4, C5: level l has stride 2^l and `channels[l]` channels."""

    def __init__(self, config: Config, image_size: tuple[int, int]) -> None:
        super().__init__()
        require_side(image_size, HALVINGS)
        self.stem = Stem(config)
        self.stages = nn.ModuleList()
        width = config.stem
        for stage in config.stages:
            self.stages.append(ExpandedStage(width, stage, config))
            width = stage.outputs
        self.channels = dict(zip(FEATURE_LEVELS, [stage.outputs for stage in config.stages[-3:]], strict=True))

    def features(self, x: Tensor) -> list[Tensor]:
        outputs = []
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return outputs[-3:]


class Head(nn.Module):
    """Global mean -> linear: [N, inputs, H, W] -> class logits [N, classes]."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.mean((2, 3)))


class CSPNet(CSPBackbone):
    """The classifier. forward: pictures [N, 3, H, W] -> class logits [N, num_classes]."""

    output_names = ("logits",)

    def __init__(self, config: Config, image_size: tuple[int, int], num_classes: int) -> None:
        super().__init__(config, image_size)
        self.num_classes = num_classes
        self.head = Head(self.channels[5], num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x)[-1])


DEPTHS = (3, 3, 5, 2)

CONFIGS = {
    "cspresnet50": Config(
        tuple(Stage(n, 128 << i, 256 << i, 64 << i, 64 << i if i else None) for i, n in enumerate(DEPTHS)), resnet=True
    ),
    "cspresnext50": Config(
        tuple(Stage(n, 256 << i, 256 << i, 128 << i, 128 << i if i else None) for i, n in enumerate(DEPTHS)),
        resnet=True,
        groups=32,
    ),
    "cspdarknet53": Config(
        (Stage(1, 64, 128, 32, 64), *(Stage(n, w, w, w // 2, w) for n, w in ((2, 128), (8, 256), (8, 512), (4, 1024)))),
        resnet=False,
    ),
}


def _register(name: str, params: int, gmacs: float, top1: float, file: str) -> None:
    metric = f"top-1 {top1} ImageNet"
    info = ModelInfo(
        name=name,
        task="classification",
        image_size=(256, 256),
        num_classes=1000,
        params=params,
        gmacs=gmacs,
        metric=metric,
        source="timm (huggingface/pytorch-image-models) models/cspnet.py",
        licence="Apache-2.0",
        checkpoints={"imagenet": Checkpoint(f"{RELEASE}{file}.pth", file[-8:], metric=metric)},
    )
    register_model(info)(partial(CSPNet, CONFIGS[name]))


_register("cspresnet50", 21_616_168, 4.517, 79.58, "cspresnet50_ra-d3e8d487")
_register("cspresnext50", 20_569_896, 4.015, 80.55, "cspresnext50_ra_224-648b4713")
_register("cspdarknet53", 27_642_184, 6.534, 80.08, "cspdarknet53_ra_256-d05c7c21")
