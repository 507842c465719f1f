"""PANet-SPP detectors: the released ones on darknet's CSPNet backbones.

Source: `cfg/*-panet-spp*.cfg` of WongKinYiu/CrossStagePartialNetworks; Liu et al., Path Aggregation Network (CVPR 2018,
arXiv 1803.01534); He et al., Spatial Pyramid Pooling (arXiv 1406.4729); YOLOv3 (arXiv 1804.02767) for the heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from exporter.build.darknet import Backbone, Config, DarknetOrder, Unit
from exporter.build.layers import initialise
from exporter.build.yolo import ANCHORS_PER_CELL, Head, YoloDetector, predictor


class SpatialPyramidPool(nn.Module):
    """[N, C, H, W] -> [N, 4C, H, W]: max-pools of 13, 9 and 5 with stride 1 and SAME padding, and the input."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([*(F.max_pool2d(x, kernel, 1, kernel // 2) for kernel in (13, 9, 5)), x], 1)


def five(inputs: int, width: int) -> nn.Sequential:
    """Five convolutions, 1x1 to `width` and 3x3 to twice as many in turn."""
    return nn.Sequential(
        Unit(inputs, width),
        Unit(width, 2 * width, 3),
        Unit(2 * width, width),
        Unit(width, 2 * width, 3),
        Unit(2 * width, width),
    )


class TopDown(nn.Module):
    """Coarser map and backbone feature -> map of `width` channels at the feature's stride."""

    def __init__(self, coarser: int, feature: int, width: int) -> None:
        super().__init__()
        self.up = Unit(coarser, width)
        self.lateral = Unit(feature, width)
        self.fuse = five(2 * width, width)

    def forward(self, coarser: Tensor, feature: Tensor) -> Tensor:
        up = F.interpolate(self.up(coarser), scale_factor=2.0)
        return self.fuse(torch.cat([self.lateral(feature), up], 1))


class BottomUp(nn.Module):
    """Finer map and the top-down map of a level -> map of `width` channels at that level."""

    def __init__(self, finer: int, width: int) -> None:
        super().__init__()
        self.down = Unit(finer, width, 3, stride=2)
        self.fuse = five(2 * width, width)

    def forward(self, finer: Tensor, same: Tensor) -> Tensor:
        return self.fuse(torch.cat([self.down(finer), same], 1))


class PANetSPP(DarknetOrder, YoloDetector):
    """The detectors of the cfg files; see `YoloDetector`."""

    outputs_per_class = ANCHORS_PER_CELL

    def __init__(self, config: Config, head: Head, image_size: tuple[int, int], num_classes: int) -> None:
        super().__init__(head, image_size, num_classes)
        self.backbone = Backbone(config, image_size)
        c3, c4, c5 = self.backbone.channels.values()
        self.squeeze = nn.Sequential(Unit(c5, 512), Unit(512, 1024, 3), Unit(1024, 512))
        self.pool = SpatialPyramidPool()
        self.top = nn.Sequential(Unit(2048, 512), Unit(512, 1024, 3), Unit(1024, 512))
        self.top_down4, self.top_down3 = TopDown(512, c4, 256), TopDown(256, c3, 128)
        self.predict3 = predictor(128, num_classes)
        self.bottom_up4 = BottomUp(128, 256)
        self.predict4 = predictor(256, num_classes)
        self.bottom_up5 = BottomUp(256, 512)
        self.predict5 = predictor(512, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        c3, c4, c5 = self.backbone.features(x)
        n5 = self.top(self.pool(self.squeeze(c5)))
        n4 = self.top_down4(n5, c4)
        p3 = self.top_down3(n4, c3)
        p4 = self.bottom_up4(p3, n4)
        p5 = self.bottom_up5(p4, n5)
        return [self.predict3(p3), self.predict4(p4), self.predict5(p5)]
