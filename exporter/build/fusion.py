"""Feature pyramids of the CSPNet paper, and the YOLO detectors on them: FPN, GFM and EFM with Maxout.

Source: Wang et al., CSPNet (CVPRW 2020, arXiv 1911.11929), §3.3 and figure 6; Goodfellow et al., Maxout Networks (ICML
2013, arXiv 1302.4389). After the paper: neither a cfg nor weights of them were released. The paper leaves open, and we
chose: a 1x1 unit of its own brings each feature map to the width of the level it is fused into; finer maps come down by
max-pool, coarser ones up by nearest; the Maxout has one piece a map; the head is a predictor alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial, reduce
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from exporter.build.cspdensenet import CSPPELEENET, CSPDenseBackbone
from exporter.build.darknet import Unit
from exporter.build.layers import initialise
from exporter.build.registry import ModelInfo, register_model
from exporter.build.yolo import CLASSIC, Head, YoloDetector, predictor

Fusion = Literal["fpn", "gfm", "efm"]

LEVELS = (3, 4, 5)
WIDTHS = {3: 64, 4: 128, 5: 256}
"""Channels of the fused maps."""
REACH: dict[Fusion, range] = {"fpn": range(2), "gfm": range(-2, 3), "efm": range(-1, 2)}
"""How much coarser a map may be than the level that it is fused into."""


def sources(fusion: Fusion, level: int) -> tuple[int, ...]:
    """The levels that are fused into `level`: with FPN itself and the next coarser one, with GFM all, with EFM itself
    and both neighbours, since the size of an anchor lies between their fields of view.
    """
    return tuple(source for source in LEVELS if source - level in REACH[fusion])


def resample(x: Tensor, halvings: int) -> Tensor:
    """x [N, C, H, W] at another level: max-pool down by 2^halvings, or nearest up where it is negative."""
    if halvings > 0:
        return F.max_pool2d(x, 2**halvings)
    return F.interpolate(x, scale_factor=float(2**-halvings)) if halvings else x


class MaxoutFusion(nn.Module):
    """Feature maps of several levels -> [N, width, H, W] at `level`: the largest of them, element by element.

    That is the Maxout of their concatenation with the maps as its pieces: the maximum over groups of `width` channels,
    without the concatenation.
    """

    def __init__(self, channels: Mapping[int, int], level: int, width: int) -> None:
        super().__init__()
        self.level = level
        self.lateral = nn.ModuleDict({str(source): Unit(channels[source], width) for source in channels})

    def forward(self, features: Mapping[int, Tensor]) -> Tensor:
        pieces = [resample(unit(features[int(name)]), self.level - int(name)) for name, unit in self.lateral.items()]
        return reduce(torch.maximum, pieces)


class FusionDetector(YoloDetector):
    """Backbone, pyramid fusion, YOLO layers; see `YoloDetector`.

    `backbone(image_size)` is a module whose `features(x)` gives C3, C4 and C5, of `channels[level]` channels.
    """

    def __init__(
        self,
        backbone: Callable[[tuple[int, int]], Any],
        fusion: Fusion,
        head: Head,
        image_size: tuple[int, int],
        num_classes: int,
    ) -> None:
        super().__init__(head, image_size, num_classes)
        self.backbone = backbone(image_size)
        channels: Mapping[int, int] = self.backbone.channels
        self.fuse = nn.ModuleList()
        self.predict = nn.ModuleList()
        for level in LEVELS:
            own = {source: channels[source] for source in sources(fusion, level)}
            self.fuse.append(MaxoutFusion(own, level, WIDTHS[level]))
            self.predict.append(predictor(WIDTHS[level], num_classes))
        initialise(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        features = dict(zip(LEVELS, self.backbone.features(x), strict=True))
        return [predict(fuse(features)) for fuse, predict in zip(self.fuse, self.predict, strict=True)]


# Fusion -> parameters and GMACs at 416, measured on this implementation.
COSTS: dict[Fusion, tuple[int, float]] = {
    "fpn": (4_317_117, 2.445),
    "gfm": (4_592_957, 2.807),
    "efm": (4_481_725, 2.622),
}

for _fusion, (_params, _gmacs) in COSTS.items():
    register_model(
        ModelInfo(
            name=f"csppeleenet_{_fusion}",
            task="detection",
            image_size=(416, 416),
            num_classes=80,
            params=_params,
            gmacs=_gmacs,
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
            source="after the CSPNet paper (arXiv 1911.11929), §3.3: no official weights or cfg exist",
        )
    )(partial(FusionDetector, partial(CSPDenseBackbone, CSPPELEENET), _fusion, CLASSIC))
