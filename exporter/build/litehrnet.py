"""Lite-HRNet: high-resolution branches in parallel, whose 1x1 convolutions are replaced by channel weights.

Source: Yu et al., Lite-HRNet (CVPR 2021, arXiv 2104.06403), §3 naive form, conditional channel weighting; the official
HRNet/Lite-HRNet `models/backbones/litehrnet.py`, whose module names are kept so that its checkpoints, and mmpose's,
load. Every convolution is followed by BatchNorm unless said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from exporter.build.layers import initialise
from exporter.errors import UsageError

STEM = 32
CROSS_RATIO, SPATIAL_RATIO = 8, 4
"""What conditional channel weighting divides its channels by, over all branches and within one."""
COARSEST = 32
"""Stride of the last branch."""


@dataclass(frozen=True)
class Config:
    """`block` is lite (conditional channel weighting) or naive (shuffle blocks); `modules` of each of the three stages,
    which have 2, 3 and 4 branches; `width` of the first branch, doubled in each further one."""

    block: Literal["lite", "naive"]
    modules: tuple[int, int, int]
    width: int

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(self.width << branch for branch in range(len(self.modules) + 1))


class ConvUnit(nn.Module):
    """Convolution, BatchNorm (or a bias where `norm` is off), activation."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        depthwise: bool = False,
        norm: bool = True,
        activation: type[nn.Module] | None = nn.ReLU,
    ) -> None:
        super().__init__()
        groups = inputs if depthwise else 1
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=not norm)
        self.bn = nn.BatchNorm2d(outputs) if norm else nn.Identity()
        self.act = activation() if activation else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


def depthwise(channels: int, stride: int = 1, activation: type[nn.Module] | None = None) -> ConvUnit:
    """Depthwise 3x3."""
    return ConvUnit(channels, channels, 3, stride, depthwise=True, activation=activation)


def separable(inputs: int, outputs: int, stride: int, relu: bool) -> nn.Sequential:
    """Depthwise 3x3, then 1x1, each with BatchNorm; no activation between them."""
    layers = [
        nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *([nn.ReLU()] if relu else []))


def shuffled(a: Tensor, b: Tensor) -> Tensor:
    """Two halves [N, C/2, H, W] -> [N, C, H, W] with their channels taken in turn."""
    x = torch.cat([a, b], 1)
    n, channels, height, width = x.shape
    return x.view(n, 2, channels // 2, height, width).transpose(1, 2).contiguous().view(n, channels, height, width)


class Stem(nn.Module):
    """[N, 3, H, W] -> [N, 32, H/4, W/4]: a strided convolution, then a strided shuffle block."""

    def __init__(self) -> None:
        super().__init__()
        half = STEM // 2
        self.conv1 = ConvUnit(3, STEM, 3, 2)
        self.branch1 = nn.Sequential(depthwise(half, 2), ConvUnit(half, half))
        self.expand_conv = ConvUnit(half, STEM)
        self.depthwise_conv = depthwise(STEM, 2)
        self.linear_conv = ConvUnit(STEM, half)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.conv1(x).chunk(2, 1)
        return shuffled(self.branch1(a), self.linear_conv(self.depthwise_conv(self.expand_conv(b))))


class CrossResolutionWeighting(nn.Module):
    """Weights for every channel and place of every branch, from all branches at the size of the coarsest."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.channels = list(channels)
        total = sum(channels)
        self.conv1 = ConvUnit(total, total // CROSS_RATIO)
        self.conv2 = ConvUnit(total // CROSS_RATIO, total, activation=nn.Sigmoid)

    def forward(self, xs: Sequence[Tensor]) -> list[Tensor]:
        coarsest = (xs[-1].shape[2], xs[-1].shape[3])
        pooled = [F.adaptive_avg_pool2d(x, coarsest) for x in xs[:-1]] + [xs[-1]]
        weights = self.conv2(self.conv1(torch.cat(pooled, 1))).split(self.channels, 1)
        return [x * F.interpolate(w, size=x.shape[-2:], mode="nearest") for x, w in zip(xs, weights, strict=True)]


class SpatialWeighting(nn.Module):
    """Weights for every channel, from its mean over the picture: squeeze and excitation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvUnit(channels, channels // SPATIAL_RATIO, norm=False)
        self.conv2 = ConvUnit(channels // SPATIAL_RATIO, channels, norm=False, activation=nn.Sigmoid)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.conv2(self.conv1(F.adaptive_avg_pool2d(x, 1)))


class ConditionalChannelWeighting(nn.Module):
    """The lite block, over all branches at once: half of the channels pass, half are weighted and convolved."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        halves = [width // 2 for width in widths]
        self.cross_resolution_weighting = CrossResolutionWeighting(halves)
        self.depthwise_convs = nn.ModuleList(depthwise(half) for half in halves)
        self.spatial_weighting = nn.ModuleList(SpatialWeighting(half) for half in halves)

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        passed, worked = zip(*(x.chunk(2, 1) for x in xs), strict=True)
        worked = self.cross_resolution_weighting(worked)
        layers = zip(passed, worked, self.depthwise_convs, self.spatial_weighting, strict=True)
        return [shuffled(a, weigh(conv(b))) for a, b, conv, weigh in layers]


class ShuffleUnit(nn.Module):
    """The naive block of one branch: half of the channels pass, half go through 1x1, depthwise 3x3, 1x1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.branch2 = nn.Sequential(ConvUnit(half, half), depthwise(half), ConvUnit(half, half))

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        return shuffled(a, self.branch2(b))


class HighResolutionModule(nn.Module):
    """Two blocks on every branch, then the exchange between all of them.

    The official code adds in place to the first branch and starts every sum with the term of that branch: y0 counts x0
    twice, the others count f_i0 of y0 (before its ReLU) twice. Trained weights need it; f_i0 is evaluated once here.
    """

    def __init__(self, block: str, widths: Sequence[int]) -> None:
        super().__init__()
        self.naive = block == "naive"
        if self.naive:
            self.layers = nn.ModuleList(nn.Sequential(ShuffleUnit(w), ShuffleUnit(w)) for w in widths)
        else:
            self.layers = nn.ModuleList(ConditionalChannelWeighting(widths) for _ in range(2))
        branches = range(len(widths))
        self.fuse_layers = nn.ModuleList(nn.ModuleList(self._edge(widths, i, j) for j in branches) for i in branches)

    @staticmethod
    def _edge(widths: Sequence[int], i: int, j: int) -> nn.Module:
        """f_ij, from branch j to branch i: 1x1 and nearest upsampling, or i - j strided separable convolutions."""
        if i == j:
            return nn.Identity()
        if j > i:
            conv = nn.Conv2d(widths[j], widths[i], 1, bias=False)
            return nn.Sequential(conv, nn.BatchNorm2d(widths[i]), nn.Upsample(scale_factor=2 ** (j - i)))
        steps = [separable(widths[j], widths[j], 2, relu=True) for _ in range(i - j - 1)]
        return nn.Sequential(*steps, separable(widths[j], widths[i], 2, relu=False))

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        if self.naive:
            xs = [layer(x) for layer, x in zip(self.layers, xs, strict=True)]
        else:
            for layer in self.layers:
                xs = layer(xs)
        fused: list[Tensor] = []
        for i, edges in enumerate(self.fuse_layers):
            total = 2 * (xs[0] if i == 0 else edges.get_submodule("0")(fused[0]))
            for j, x in enumerate(xs[1:], 1):
                total = total + edges.get_submodule(str(j))(x)
            fused.append(total)
        return [F.relu(y) for y in fused]


class IterativeHead(nn.Module):
    """Branches, finest first -> the same sizes, each with what lies below it added, at the next finer one's width."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        coarsest_first = list(reversed(widths))
        pairs = zip(coarsest_first, [*coarsest_first[1:], coarsest_first[-1]], strict=True)
        self.projects = nn.ModuleList(
            nn.ModuleDict({"depthwise_conv": depthwise(a), "pointwise_conv": ConvUnit(a, b)}) for a, b in pairs
        )

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        outputs: list[Tensor] = []
        for x, project in zip(reversed(xs), self.projects, strict=True):
            y = x
            if outputs:
                y = x + F.interpolate(outputs[-1], size=x.shape[-2:], mode="bilinear", align_corners=True)
            outputs.append(project.get_submodule("pointwise_conv")(project.get_submodule("depthwise_conv")(y)))
        return outputs[::-1]


class Backbone(nn.Module):
    """[N, 3, H, W] -> the iterative head's maps, finest first: [N, width, H/4, W/4], [N, width, H/8, W/8], ..."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        widths = config.widths
        self.stem = Stem()
        self.stages = len(config.modules)
        for index, modules in enumerate(config.modules):
            branches = index + 2
            kept: list[nn.Module] = [nn.Identity() for _ in range(branches - 1)]
            if index == 0:
                kept = [separable(STEM, widths[0], 1, relu=True)]
            new = nn.Sequential(separable(widths[index] if index else STEM, widths[index + 1], 2, relu=True))
            stage = [HighResolutionModule(config.block, widths[:branches]) for _ in range(modules)]
            self.add_module(f"transition{index}", nn.ModuleList([*kept, new]))
            self.add_module(f"stage{index}", nn.Sequential(*stage))
        self.head_layer = IterativeHead(widths)

    def forward(self, x: Tensor) -> list[Tensor]:
        xs = [self.stem(x)]
        for index in range(self.stages):
            transition = self.get_submodule(f"transition{index}")
            # A new branch starts from the coarsest one.
            xs = [move(y) for move, y in zip(transition, [*xs, xs[-1]], strict=True)]  # type: ignore[call-overload]
            xs = self.get_submodule(f"stage{index}")(xs)
        return self.head_layer(xs)


@torch.no_grad()
def initialise_fusion(backbone: Backbone) -> None:
    """Random weights whose activations stay within a few times each other, however many modules follow.

    What passes the blocks grows with every fusion, so the terms of the sums are half as large and less shifted. The
    first channel of the first branch passes every block, and y0 = 2·x0 + … doubles it in every module (2^14 in
    litehrnet_30): it is zero. Noise of 40 dB at the input then leaves 35 dB at the output, in 18 and in 30.
    """
    first_branch = [backbone.get_submodule("transition0.0.3")]
    for module in backbone.modules():
        if isinstance(module, HighResolutionModule):
            for name, norm in module.fuse_layers.named_modules():
                if isinstance(norm, nn.BatchNorm2d):
                    norm.weight.fill_(0.5)
                    norm.bias.fill_(0.5)
                    first_branch += [norm] if name.startswith("0.") else []
    for norm in first_branch:
        assert isinstance(norm, nn.BatchNorm2d)
        norm.weight[0] = norm.bias[0] = 0.0


class KeypointHead(nn.Module):
    """1x1 convolution with bias to one heatmap a joint."""

    def __init__(self, width: int, joints: int) -> None:
        super().__init__()
        self.final_layer = nn.Conv2d(width, joints, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.final_layer(x)


def check_size(image_size: tuple[int, int]) -> None:
    """UsageError unless every branch has half the size of the one before."""
    if any(side % COARSEST for side in image_size):
        raise UsageError(
            f"image_size is {image_size[0]}x{image_size[1]}",
            why=f"Lite-HRNet adds branches of strides 4 to {COARSEST}, each upsampled by a power of two",
            try_=f"sides that are multiples of {COARSEST}",
        )


class LiteHRNet(nn.Module):
    """The pose estimator. forward: persons [N, 3, H, W] -> heatmaps [N, joints, H/4, W/4]. See `pose.py`."""

    output_names = ("heatmaps",)
    checkpoint_namings = {  # noqa: RUF012
        "mmpose 1.x": lambda name: name.replace("head.final_layer", "keypoint_head.final_layer"),
        "bare": lambda name: name.replace("final_layer", "keypoint_head.final_layer"),
    }

    def __init__(self, config: Config, image_size: tuple[int, int], num_classes: int) -> None:
        super().__init__()
        check_size(image_size)
        self.config, self.image_size, self.num_classes = config, image_size, num_classes
        self.backbone = Backbone(config)
        self.keypoint_head = KeypointHead(config.width, num_classes)
        initialise(self)
        initialise_fusion(self.backbone)

    def forward(self, x: Tensor) -> Tensor:
        return self.keypoint_head(self.backbone(x)[0])


class LiteHRNetSegmentation(nn.Module):
    """The segmenter. forward: [N, 3, H, W] -> per-pixel class logits [N, num_classes, H, W].

    The authors say that the net serves segmentation in the same manner, but publish neither its head nor weights. This
    is the simplest: a 1x1 convolution on the finest map of the iterative head, then bilinear upsampling.
    """

    output_names = ("logits",)

    def __init__(self, config: Config, image_size: tuple[int, int], num_classes: int) -> None:
        super().__init__()
        check_size(image_size)
        self.config, self.image_size, self.num_classes = config, image_size, num_classes
        self.backbone = Backbone(config)
        self.classifier = nn.Conv2d(config.width, num_classes, 1)
        initialise(self)
        initialise_fusion(self.backbone)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.classifier(self.backbone(x)[0])
        return F.interpolate(logits, size=x.shape[-2:], mode="bilinear", align_corners=False)
