"""FasterNet: partial convolutions, as classifier and as the backbone of a detector.

Sources: FasterNet paper (arXiv 2303.03667) §3; names, figures and weights: JierunChen/FasterNet.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from exporter.build.layers import initialise
from exporter.build.registry import Checkpoint, ModelInfo, register_model
from exporter.errors import UsageError

PartialForm = Literal["split_cat", "slicing"]
STAGES = 4
STRIDE = 32
"""Of the last stage: 4 in the embedding, 2 in each of three mergings."""
HEAD_CHANNELS = 1280


@dataclass(frozen=True)
class Config:
    """channels and blocks: of the first stage, and per stage; each merging doubles the channels."""

    channels: int
    blocks: tuple[int, int, int, int]
    activation: type[nn.Module] = nn.ReLU
    form: PartialForm = "split_cat"

    def width(self, stage: int) -> int:
        return self.channels << stage


class PartialConv(nn.Module):
    """PConv (§3.2): a 3x3 convolution of the first quarter of the channels; the others stay as they are, behind them.

    Two forms of one function. `split_cat` splits and joins, which exports as it is. `slicing` writes into a copy of
    its input; without the copy it would write into the block's shortcut, and the published weights are wrong for that
    (the official detection README names it).

    TFLite has no convolution of a slice, so the file copies: two SLICEs and a CONCATENATION, 1.2 to 1.5 % of the
    profile of T0 in int8 and 1.9 to 2.9 % in float32. Forms with fewer copies, equal in float, cost more CPU time than
    they save (LiteRT 2.3, x86 AVX2; int8, float32): the stage's activation kept in two tensors 1.01, 1.03;
    concatenation behind the whole input and zeros in the pointwise weights 1.07, 1.06; pointwise convolutions of both
    parts and their sum 1.15, 1.05; a 3x3 convolution of all channels with zero weights 1.34, 1.41; with identity
    groups 1.35, 1.31.
    """

    def __init__(self, channels: int, form: PartialForm) -> None:
        super().__init__()
        self.convolved, self.form = channels // 4, form
        self.partial_conv3 = nn.Conv2d(self.convolved, self.convolved, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        convolved, untouched = x[:, : self.convolved], x[:, self.convolved :]
        if self.form == "split_cat":
            return torch.cat([self.partial_conv3(convolved), untouched], 1)
        y = x.clone()
        y[:, : self.convolved] = self.partial_conv3(convolved)
        return y


class Block(nn.Module):
    """x + pointwise(act(norm(pointwise(PConv(x))))), twice as wide inside."""

    def __init__(self, channels: int, config: Config) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Conv2d(channels, 2 * channels, 1, bias=False),
            nn.BatchNorm2d(2 * channels),
            config.activation(),
            nn.Conv2d(2 * channels, channels, 1, bias=False),
        )
        self.spatial_mixing = PartialConv(channels, config.form)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.spatial_mixing(x))


class Stage(nn.Module):
    """Blocks of one width."""

    def __init__(self, stage: int, config: Config) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(config.width(stage), config) for _ in range(config.blocks[stage])))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


class Embedding(nn.Module):
    """Pictures in patches of 4x4: convolution -> norm, no activation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, channels, 4, 4, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x))


class Merging(nn.Module):
    """Between stages: patches of 2x2 into twice the channels, convolution -> norm, no activation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduction = nn.Conv2d(channels, 2 * channels, 2, 2, bias=False)
        self.norm = nn.BatchNorm2d(2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.reduction(x))


class Trunk(nn.Module):
    """What classifier and backbone share: embedding, stages 0, 2, 4, 6 and the mergings 1, 3, 5 between them."""

    def __init__(self, config: Config, image_size: tuple[int, int]) -> None:
        super().__init__()
        if min(image_size) < STRIDE:
            raise UsageError(
                f"image_size is {image_size[0]}x{image_size[1]}",
                why=f"one cell of the last stage is {STRIDE}x{STRIDE} pixels",
                try_=f"sides of at least {STRIDE} pixels; what is over a multiple of it is cut off",
            )
        self.patch_embed = Embedding(config.channels)
        self.stages = nn.Sequential()
        for stage in range(STAGES):
            if stage:
                self.stages.append(Merging(config.width(stage - 1)))
            self.stages.append(Stage(stage, config))


def from_timm(name: str) -> str:
    """timm puts each merging into the stage behind it, and calls the head's two layers otherwise."""
    for theirs, ours in (("conv_head.", "avgpool_pre_head.1."), ("classifier.", "head.")):
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    if found := re.fullmatch(r"stages\.(\d+)\.(downsample\.)?(.+)", name):
        stage, merging, rest = int(found[1]), found[2], found[3]
        return f"stages.{2 * stage - 1 if merging else 2 * stage}.{rest}"
    return name


def from_detector(name: str) -> str | None:
    """mmdet puts `backbone.` before its names; its neck and heads are none of ours."""
    return name.removeprefix("backbone.") if name.startswith("backbone.") else None


class FasterNet(Trunk):
    """The classifier. forward: pictures [N, 3, H, W] -> class logits [N, num_classes]."""

    output_names = ("logits",)
    checkpoint_namings = {"timm": from_timm}  # noqa: RUF012

    def __init__(self, config: Config, image_size: tuple[int, int], num_classes: int) -> None:
        super().__init__(config, image_size)
        self.num_classes = num_classes
        self.avgpool_pre_head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(config.width(STAGES - 1), HEAD_CHANNELS, 1, bias=False),
            config.activation(),
        )
        self.head = nn.Linear(HEAD_CHANNELS, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages(self.patch_embed(x))
        return self.head(self.avgpool_pre_head(x).flatten(1))


class FasterNetFeatures(Trunk):
    """The backbone of a detector: a norm on the output of each stage, trained with the detector.

    forward: pictures [N, 3, H, W] -> C2..C5, level l of stride 2^l: [N, channels << (l - 2), H / 2^l, W / 2^l].
    """

    output_names = ("c2", "c3", "c4", "c5")
    checkpoint_namings = {"mmdet": from_detector}  # noqa: RUF012

    def __init__(self, config: Config, image_size: tuple[int, int], num_classes: int) -> None:
        super().__init__(config, image_size)
        for stage in range(STAGES):
            self.add_module(f"norm{2 * stage}", nn.BatchNorm2d(config.width(stage)))
        initialise(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        x = self.patch_embed(x)
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index % 2 == 0:
                features.append(self.get_submodule(f"norm{index}")(x))
        return features


@dataclass(frozen=True)
class Variant:
    """One size. params and gmacs at 224x224: of the classifier as measured on the official code, of the backbone on
    ours. top1: ImageNet in percent, as published at crop 0.9, and timm's of the same weights at crop 1.0. `weights` is
    the end of the release file's name. box_ap: of Mask R-CNN 1x on COCO val2017, whose weights end in `detector`.
    """

    name: str
    config: Config
    params: int
    gmacs: float
    features_params: int
    features_gmacs: float
    top1: float
    timm_top1: float
    weights: str
    box_ap: float | None = None
    detector: str = ""


_TINY, _S, _ML = (1, 2, 8, 2), (1, 2, 13, 2), (3, 4, 18, 3)
# fmt: off
VARIANTS = (
    Variant("t0", Config(40, _TINY, nn.GELU), 3_905_500, 0.335, 2_216_100, 0.334, 71.9, 71.73, "281-val_acc1.71.9180"),
    Variant("t1", Config(64, _TINY, nn.GELU), 7_595_368, 0.851, 5_660_928, 0.849, 76.2, 75.92, "291-val_acc1.76.2180"),
    Variant("t2", Config(96, _TINY), 14_982_888, 1.904, 12_721_728, 1.902, 78.9, 78.74, "289-val_acc1.78.8860"),
    Variant("s", Config(128, _S), 31_181_032, 4.550, 28_593_152, 4.547, 81.3, 81.33, "299-val_acc1.81.2840",
            39.9, "20221111_063419"),
    Variant("m", Config(144, _ML), 53_521_464, 8.722, 50_770_224, 8.719, 83.0, 82.85, "291-val_acc1.82.9620",
            43.0, "20221107_124408"),
    Variant("l", Config(192, _ML), 93_465_192, 15.494, 90_223_872, 15.491, 83.5, 83.52, "299-val_acc1.83.5060",
            44.0, "20221107_004433"),
)
# fmt: on

RELEASE = "https://github.com/JierunChen/FasterNet/releases/download/v1.0/"
# No release file carries a digest, in its name or beside it.
_facts = partial(
    ModelInfo,
    image_size=(224, 224),
    source="JierunChen/FasterNet",
    licence="no licence file is published; the official model code is marked MIT, timm marks the weights Apache-2.0",
)

for _variant in VARIANTS:
    _name, _metric = f"fasternet_{_variant.name}", f"top-1 {_variant.top1} ImageNet"
    _file = f"{RELEASE}{_name}-epoch.{_variant.weights}.pth"
    register_model(
        _facts(
            name=_name,
            task="classification",
            num_classes=1000,
            params=_variant.params,
            gmacs=_variant.gmacs,
            metric=f"{_metric} (crop 0.9; timm: {_variant.timm_top1} at crop 1.0)",
            checkpoints={"imagenet": Checkpoint(_file, None, metric=_metric)},
        )
    )(partial(FasterNet, _variant.config))

for _variant in VARIANTS:
    _name, _metric, _checkpoints = f"fasternet_{_variant.name}_features", "", {}
    if _variant.box_ap is not None:
        _metric = f"AP {_variant.box_ap} COCO val2017 (boxes of Mask R-CNN 1x)"
        _file = f"{RELEASE}mask_rcnn_fasternet_{_variant.name}_fpn_1x_coco_{_variant.detector}.pth"
        _checkpoints["coco"] = Checkpoint(_file, None, metric=_metric)
    register_model(
        _facts(
            name=_name,
            task="features",
            num_classes=0,
            params=_variant.features_params,
            gmacs=_variant.features_gmacs,
            metric=_metric,
            checkpoints=_checkpoints,
        )
    )(partial(FasterNetFeatures, _variant.config))
