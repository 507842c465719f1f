"""CSPNet as its authors released it for darknet: backbones, and the classifiers on them.

Source: WongKinYiu/CrossStagePartialNetworks `cfg/*.cfg`, for the structure; AlexeyAB/darknet, for the meaning of a
layer. Not the networks of timm's layout: the slope is 0.1, the two parts of a stage come from two 1x1 convolutions, the
path with the blocks goes first into the concat. Convolutions are registered in the order of the cfg, which is the order
of a `.weights` file.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from exporter.build.cspnet import ConvUnit
from exporter.build.layers import initialise
from exporter.errors import UsageError

SLOPE = 0.1
Unit = partial(ConvUnit, slope=SLOPE)


@dataclass(frozen=True)
class Stage:
    """One row of a backbone: channels of its convolutions.

    `down` of the stride-2 3x3 in front, 0 for none; `cross` of the path past the blocks and of the blocks' outputs;
    `enter` of the first block's input; `hidden` inside a block; `out` of the transition at the end. `slope` is that of
    the activation behind the two 1x1 convolutions that open the paths, 1 for none.
    """

    down: int
    cross: int
    enter: int
    hidden: int
    depth: int
    out: int
    slope: float = SLOPE


@dataclass(frozen=True)
class Config:
    """A backbone. `bottleneck` blocks are 1x1, 3x3, linear 1x1 and the activation after the sum, the others 1x1, 3x3
    and none. `elastic` blocks run half of the channels at half the resolution, all as wide as `cross`."""

    stages: tuple[Stage, ...]
    bottleneck: bool
    groups: int = 1
    elastic: bool = False

    @property
    def multiple(self) -> int:
        """What image sides must be a multiple of: five halvings, and one more inside an elastic block."""
        return 64 if self.elastic else 32


class Block(nn.Module):
    """Convolutions, plus the input. An input of fewer channels is added to the first ones alone, as darknet does."""

    def __init__(self, path: nn.Module, act: bool) -> None:
        super().__init__()
        self.path = path
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        y = self.path(x)
        if x.shape[1] < y.shape[1]:
            x = F.pad(x, (0, 0, 0, 0, 0, y.shape[1] - x.shape[1]))
        y = y + x
        return F.leaky_relu(y, SLOPE) if self.act else y


class Elastic(nn.Module):
    """Half of the channels as they are, the other half at half the resolution (Wang et al., ELASTIC, CVPR 2019)."""

    def __init__(self, fine: nn.Module, coarse: nn.Module) -> None:
        super().__init__()
        self.fine, self.coarse = fine, coarse

    def forward(self, x: Tensor) -> Tensor:
        upper, lower = x.chunk(2, 1)
        pooled = self.coarse(F.max_pool2d(lower, 2))
        return torch.cat([self.fine(upper), F.interpolate(pooled, scale_factor=2.0)], 1)


def convolutions(inputs: int, hidden: int, outputs: int, groups: int, bottleneck: bool) -> nn.Sequential:
    """The convolutions of a block."""
    if not bottleneck:
        return nn.Sequential(Unit(inputs, hidden), Unit(hidden, outputs, 3, groups=groups))
    middle = Unit(hidden, hidden, 3, groups=groups)
    return nn.Sequential(Unit(inputs, hidden), middle, Unit(hidden, outputs, slope=1))


class CrossStage(nn.Module):
    """A cross-stage-partial stage: transition([transition(blocks(enter(x))), cross(x)]), after an optional down."""

    def __init__(self, inputs: int, stage: Stage, config: Config) -> None:
        super().__init__()
        self.down: nn.Module = nn.Identity()
        if stage.down:
            self.down = Unit(inputs, stage.down, 3, stride=2, groups=config.groups)
            inputs = stage.down
        width = stage.cross
        self.cross = Unit(inputs, width, slope=stage.slope)
        self.enter = Unit(inputs, width if config.elastic else stage.enter, slope=stage.slope)
        blocks: list[nn.Module] = []
        for index in range(stage.depth):
            if config.elastic:
                half = width // 2
                groups = max(config.groups // 2, 1)
                fine, coarse = (convolutions(half, half, half, groups, config.bottleneck) for _ in range(2))
                path: nn.Module = Elastic(fine, coarse)
            else:
                entering = stage.enter if index == 0 else width
                path = convolutions(entering, stage.hidden, width, config.groups, config.bottleneck)
            blocks.append(Block(path, act=config.bottleneck))
        self.blocks = nn.Sequential(*blocks)
        self.transition_b = Unit(width, width)
        self.transition = Unit(2 * width, stage.out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        cross = self.cross(x)
        return self.transition(torch.cat([self.transition_b(self.blocks(self.enter(x))), cross], 1))


class Backbone(nn.Module):
    """features: pictures [N, 3, H, W] -> C3, C4, C5: level l has stride 2^l and `channels[l]` channels.

    They are the transitions of the last three stages. A backbone with bottlenecks begins with 7x7 stride 2 and a 2x2
    max-pool, the other with 3x3. Raises UsageError for sides that the halvings do not divide.
    """

    def __init__(self, config: Config, image_size: tuple[int, int]) -> None:
        super().__init__()
        if any(side % config.multiple for side in image_size):
            raise UsageError(
                f"image_size is {image_size[0]}x{image_size[1]}",
                why=f"the network halves the image by whole windows: sides must be multiples of {config.multiple}",
                try_=f"sides that are multiples of {config.multiple} pixels",
            )
        width = 64 if config.bottleneck else 32
        self.stem: nn.Module = Unit(3, width, 3)
        if config.bottleneck:
            self.stem = nn.Sequential(Unit(3, width, 7, stride=2), nn.MaxPool2d(2))
        self.stages = nn.ModuleList()
        for stage in config.stages:
            self.stages.append(CrossStage(width, stage, config))
            width = stage.out
        self.channels = {level: stage.out for level, stage in zip((3, 4, 5), config.stages[-3:], strict=True)}

    def features(self, x: Tensor) -> list[Tensor]:
        found = []
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found[-3:]


class DarknetOrder(nn.Module):
    """Marks a network of a published cfg, registered in its order: `.weights` files load.

    `outputs_per_class` is how many outputs each of its predictors has for one more class.
    """

    num_classes: int
    outputs_per_class = 1


class Classifier(DarknetOrder):
    """forward: pictures [N, 3, H, W] -> class logits [N, num_classes]: global mean, then a 1x1 convolution."""

    output_names = ("logits",)

    def __init__(self, config: Config, image_size: tuple[int, int], num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.backbone = Backbone(config, image_size)
        self.head = nn.Conv2d(self.backbone.channels[5], num_classes, 1)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone.features(x)[-1].mean((2, 3), keepdim=True)).flatten(1)
