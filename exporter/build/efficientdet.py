"""EfficientDet: EfficientNet backbone, repeated BiFPN, heads shared by all pyramid levels.

Source: Tan, Pang, Le, EfficientDet (CVPR 2020, arXiv 1911.09070), §3 BiFPN, §4.2 compound scaling, §5.2 segmentation;
google/automl `efficientdet_arch.py`, effdet 0.4.1, whose module names are kept so that official checkpoints load.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from exporter.build import detection
from exporter.build.efficientnet import SCALINGS, Activation, EfficientNet
from exporter.build.layers import Padding, conv2d, initialise, max_pool_halve, require_side

Fusion = Literal["fast", "softmax", "sum"]

BN_EPS = 1e-3
BN_MOMENTUM = 0.01
FUSION_EPS = 1e-4
BACKBONE_LEVELS = 5


@dataclass(frozen=True)
class Config:
    """One point of the compound scaling, and the flavour.

    `padding="same"` is the port of the TensorFlow weights (`tf_efficientdet_*`): SAME padding, backbone BatchNorm eps
    1e-3 and a redundant bias before each BatchNorm of BiFPN and heads. `"symmetric"` was trained in PyTorch.
    `levels` are the first and last pyramid level (level l has stride 2^l).
    """

    backbone: str
    width: int
    cells: int
    repeats: int
    anchor_scale: float = 4.0
    fusion: Fusion = "fast"
    levels: tuple[int, int] = (3, 7)
    padding: Padding = "symmetric"
    head_width: int | None = None

    @property
    def pyramid(self) -> range:
        return range(self.levels[0], self.levels[1] + 1)

    @property
    def backbone_eps(self) -> float:
        return 1e-3 if self.padding == "same" else 1e-5

    @property
    def redundant_bias(self) -> bool:
        return self.padding == "same"

    @property
    def activation(self) -> Activation:
        return SCALINGS[self.backbone].activation


def batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, BN_EPS, BN_MOMENTUM)


class ConvNorm(nn.Module):
    """1x1 convolution -> BatchNorm: brings a backbone feature to the width of the pyramid."""

    def __init__(self, inputs: int, config: Config) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, config.width, 1, bias=config.redundant_bias)
        self.bn = batch_norm(config.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class SeparableConv(nn.Module):
    """Depthwise 3x3 -> pointwise 1x1, then BatchNorm where `norm`; no activation."""

    def __init__(self, inputs: int, outputs: int, bias: bool, config: Config, norm: bool = False) -> None:
        super().__init__()
        self.conv_dw = conv2d(inputs, inputs, 3, groups=inputs, padding=config.padding)
        self.conv_pw = nn.Conv2d(inputs, outputs, 1, bias=bias)
        if norm:
            self.bn = batch_norm(outputs)
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_pw(self.conv_dw(x))
        return self.bn(x) if self.norm else x


class Resample(nn.Module):
    """An edge of the pyramid: 1x1 conv + BN if the channels differ, then max-pool or nearest resize to `size`."""

    def __init__(self, inputs: int, config: Config) -> None:
        super().__init__()
        self.conv = ConvNorm(inputs, config) if inputs != config.width else nn.Identity()
        self.padding: Padding = config.padding

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        x = self.conv(x)
        height, width = x.shape[2:]
        if (height, width) == size:
            return x
        if height > size[0] or width > size[1]:
            return max_pool_halve(x, self.padding)
        return F.interpolate(x, size=size, mode="nearest")


class Combine(nn.Module):
    """Weighted sum of the inputs of a node, §3.3.

    fast: relu(w_i) / (1e-4 + Σ relu(w)); softmax: exp(w_i) / Σ exp(w); sum: 1. One scalar weight per edge.
    """

    def __init__(self, edges: dict[int, int], config: Config) -> None:
        super().__init__()
        self.inputs = tuple(edges)
        self.resample = nn.ModuleDict({str(edge): Resample(channels, config) for edge, channels in edges.items()})
        self.fusion = config.fusion
        if self.fusion != "sum":
            self.edge_weights = nn.Parameter(torch.ones(len(edges)))

    def forward(self, values: list[Tensor], size: tuple[int, int]) -> Tensor:
        terms = [self.resample[str(edge)](values[edge], size) for edge in self.inputs]
        if self.fusion != "sum":
            # Scaled adds rather than stack + sum: rank 4 throughout, and the weights fold to constants.
            weights = self.weights()
            terms = [weights[i] * term for i, term in enumerate(terms)]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total

    def weights(self) -> Tensor:
        """Normalised weight of each edge, [inputs]."""
        if self.fusion == "softmax":
            return self.edge_weights.softmax(0)
        positive = self.edge_weights.relu()
        return positive / (positive.sum() + FUSION_EPS)


class AfterCombine(nn.Module):
    """Activation, then separable convolution and BatchNorm: the act comes first, unlike the paper's figure."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.conv = SeparableConv(config.width, config.width, config.redundant_bias, config, norm=True)
        self.act = config.activation

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.act(x))


class Node(nn.Module):
    """One fused feature map of a BiFPN cell."""

    def __init__(self, edges: dict[int, int], config: Config) -> None:
        super().__init__()
        self.combine = Combine(edges, config)
        self.after_combine = AfterCombine(config)

    def forward(self, values: list[Tensor], size: tuple[int, int]) -> Tensor:
        return self.after_combine(self.combine(values, size))


def cell_edges(levels: int) -> list[tuple[int, tuple[int, ...]]]:
    """The nodes of a BiFPN cell over `levels` inputs, as (level index, input ids).

    Ids 0 .. levels-1 are the cell's inputs, finest first; node k has id levels + k. Top-down from the last level but
    one, then bottom-up with an extra edge from the input of the same level; the last `levels` nodes are the outputs.
    """
    nodes: list[tuple[int, tuple[int, ...]]] = []
    newest = list(range(levels))
    for level in reversed(range(levels - 1)):
        nodes.append((level, (level, newest[level + 1])))
        newest[level] = levels + len(nodes) - 1
    for level in range(1, levels):
        own = (level, newest[level]) if newest[level] != level else (level,)
        nodes.append((level, (*own, newest[level - 1])))
        newest[level] = levels + len(nodes) - 1
    return nodes


class Cell(nn.Module):
    """One BiFPN layer, §3.2: feature maps of all levels, finest first -> the same shapes at the pyramid's width."""

    def __init__(self, channels: list[int], config: Config) -> None:
        super().__init__()
        self.edges = cell_edges(len(channels))
        all_channels = channels + [config.width] * len(self.edges)
        self.fnode = nn.ModuleList(
            Node({edge: all_channels[edge] for edge in inputs}, config) for _, inputs in self.edges
        )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        values = list(features)
        for node, (level, _) in zip(self.fnode, self.edges, strict=True):
            height, width = features[level].shape[2:]
            values.append(node(values, (height, width)))
        return values[-len(features) :]


class Downsample(nn.Module):
    """The first level past the backbone is 1x1 conv + BN + max-pool of C5; each further one max-pool alone."""

    def __init__(self, inputs: int, config: Config) -> None:
        super().__init__()
        self.conv = ConvNorm(inputs, config) if inputs != config.width else nn.Identity()
        self.padding: Padding = config.padding

    def forward(self, x: Tensor) -> Tensor:
        return max_pool_halve(self.conv(x), self.padding)


class BiFPN(nn.Module):
    """Backbone features, finest first -> feature maps [N, width, ...] of every pyramid level, finest first."""

    def __init__(self, channels: list[int], config: Config) -> None:
        super().__init__()
        channels = list(channels)
        self.resample = nn.ModuleDict()
        for index in range(len(channels), len(config.pyramid)):
            self.resample[str(index)] = Downsample(channels[-1], config)
            channels.append(config.width)
        self.cell = nn.ModuleList(
            Cell(channels if index == 0 else [config.width] * len(channels), config) for index in range(config.cells)
        )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        features = list(features)
        for downsample in self.resample.values():
            features.append(downsample(features[-1]))
        for cell in self.cell:
            features = cell(features)
        return features


class Head(nn.Module):
    """Separable convolutions shared by all levels, with a BatchNorm of its own per repeat and level."""

    def __init__(self, outputs: int, levels: int, config: Config) -> None:
        super().__init__()
        width = config.head_width or config.width
        self.conv_rep = nn.ModuleList(
            SeparableConv(config.width if repeat == 0 else width, width, config.redundant_bias, config)
            for repeat in range(config.repeats)
        )
        self.bn_rep = nn.ModuleList(
            nn.ModuleList(nn.ModuleDict({"bn": batch_norm(width)}) for _ in range(levels))
            for _ in range(config.repeats)
        )
        self.predict = SeparableConv(width, outputs, True, config)
        self.act = config.activation

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        return [self._level(x, level) for level, x in enumerate(features)]

    def _level(self, x: Tensor, level: int) -> Tensor:
        for conv, norms in zip(self.conv_rep, self.bn_rep, strict=True):
            x = self.act(norms.get_submodule(f"{level}.bn")(conv(x)))
        return self.predict(x)


class Pyramid(nn.Module):
    """What detector and segmenter share: backbone and BiFPN, and the check of the image size."""

    def __init__(self, config: Config, image_size: tuple[int, int], num_classes: int) -> None:
        super().__init__()
        require_side(image_size, BACKBONE_LEVELS)
        self.config, self.image_size, self.num_classes = config, image_size, num_classes
        levels = tuple(level for level in config.pyramid if level <= BACKBONE_LEVELS)
        self.backbone = EfficientNet(config.backbone, levels, config.padding, config.backbone_eps)
        self.fpn = BiFPN([self.backbone.channels[level] for level in levels], config)


class EfficientDet(Pyramid):
    """The detector.

    forward: pictures [N, 3, H, W] -> (class logits per level, box codes per level), finest level first:
    [N, 9 · num_classes, h, w] with channel = anchor · num_classes + class, and [N, 36, h, w] with channel =
    anchor · 4 + (ty, tx, th, tw). No sigmoid. h = ceil(H / 2^level).
    """

    def __init__(self, config: Config, image_size: tuple[int, int], num_classes: int) -> None:
        super().__init__(config, image_size, num_classes)
        self.class_net = Head(self.anchors_per_cell * num_classes, len(config.pyramid), config)
        self.box_net = Head(self.anchors_per_cell * 4, len(config.pyramid), config)
        initialise(self)
        # Focal loss prior of 0.01 (RetinaNet, §4.1): what an untrained head should say of an empty place.
        bias = self.class_net.predict.conv_pw.bias
        assert bias is not None
        nn.init.constant_(bias, -math.log(99))

    anchors_per_cell = len(detection.OCTAVES) * len(detection.EFFDET_ASPECTS)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs of forward, flattened: class_p3, ... box_p3, ..."""
        return tuple(f"{head}_p{level}" for head in ("class", "box") for level in self.config.pyramid)

    def anchors(self, aspects: tuple[detection.Aspect, ...] = detection.EFFDET_ASPECTS) -> Tensor:
        """Anchor boxes y0, x0, y1, x1 of the image size the model was built for, [A, 4] fp32, in pixels."""
        return detection.anchors(self.image_size, self.config.pyramid, self.config.anchor_scale, aspects=aspects)

    def priors(self) -> Tensor:
        """Anchors as `exporter.build.postprocess.Detector` wants them."""
        height, width = self.image_size
        return detection.centre_size(self.anchors()) / torch.tensor([height, width, height, width])

    def predictions(self, heads: tuple[list[Tensor], list[Tensor]]) -> tuple[Tensor, Tensor]:
        """What forward returned -> box codes [N, A, 4], scores [N, A, classes]."""
        classes, boxes = heads
        return detection.flatten_levels(boxes, 4), detection.flatten_levels(classes, self.num_classes).sigmoid()

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        features = self.fpn(self.backbone(x))
        return self.class_net(features), self.box_net(features)


class EfficientDetSegmentation(Pyramid):
    """The segmenter of §5.2. forward: [N, 3, H, W] -> per-pixel class logits [N, num_classes, H/4, W/4].

    After the paper: EfficientNet-B4, BiFPN over P2..P7 of width 128, only P2 classified, head of width 256, both
    repeated 3 times, fast fusion as D4. Our choice, since no code or weights were released for it: the head is the
    detector's (depthwise, pointwise, BatchNorm, activation, then a separable predictor), and the logits stay at
    stride 4 for the caller to resize.
    """

    output_names = ("logits",)

    def __init__(self, config: Config, image_size: tuple[int, int], num_classes: int) -> None:
        super().__init__(config, image_size, num_classes)
        self.seg_net = Head(num_classes, 1, config)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.seg_net(self.fpn(self.backbone(x))[:1])[0]
