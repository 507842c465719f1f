"""YOLOv3's output maps: the predictor that makes them, and what they mean.

Source: Redmon and Farhadi, YOLOv3 (arXiv 1804.02767), §2.1; AlexeyAB/darknet for `scale_x_y` (YOLOv4, arXiv 2004.10934,
§3.4: "eliminate grid sensitivity"). A cell's box has its centre at cell + sigmoid(x) · s - (s - 1) / 2, in cells, and
the sides exp(w) · anchor; its score for a class is sigmoid(objectness) · sigmoid(class).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from exporter.build.darknet import Unit
from exporter.build.detection import flatten_levels

Anchor = tuple[int, int]

ANCHORS_PER_CELL = 3
CODES = 5
"""Numbers of an anchor ahead of its classes: x, y, w, h, objectness."""


@dataclass(frozen=True)
class Head:
    """Facts of the YOLO layers, finest level first: (width, height) in pixels of the three anchors of each level, the
    scale_x_y of each level, strides in pixels. Anchors are ordered by level, row, column, anchor of the cell."""

    anchors: tuple[Anchor, ...]
    scale_xy: tuple[float, ...] = (1.0, 1.0, 1.0)
    strides: tuple[int, ...] = (8, 16, 32)

    def priors(self, image_size: tuple[int, int]) -> Tensor:
        """[A, 4] fp32: centre y, centre x, height, width, as parts of the image. The centre is the cell's middle."""
        height, width = image_size
        found = []
        for level, stride in enumerate(self.strides):
            rows, columns = (torch.arange(side // stride) + 0.5 for side in image_size)
            centres = torch.stack(torch.meshgrid(rows * stride, columns * stride, indexing="ij"), -1).reshape(-1, 1, 2)
            sides = torch.tensor([(h, w) for w, h in self._anchors(level)], dtype=torch.float32)
            centres, sides = torch.broadcast_tensors(centres, sides)
            found.append(torch.cat([centres, sides], -1).reshape(-1, 4))
        return torch.cat(found) / torch.tensor([height, width, height, width])

    def gains(self, image_size: tuple[int, int]) -> Tensor:
        """[A, 2] fp32, y and x: how many sides of its anchor a centre moves while its sigmoid goes from 0 to 1."""
        found = []
        for level, (stride, scale) in enumerate(zip(self.strides, self.scale_xy, strict=True)):
            cells = (image_size[0] // stride) * (image_size[1] // stride)
            found += [(scale * stride / h, scale * stride / w) for w, h in self._anchors(level)] * cells
        return torch.tensor(found)

    def _anchors(self, level: int) -> tuple[Anchor, ...]:
        return self.anchors[ANCHORS_PER_CELL * level :][:ANCHORS_PER_CELL]


CLASSIC = Head(((10, 13), (16, 30), (33, 23), (30, 61), (62, 45), (59, 119), (116, 90), (156, 198), (373, 326)))
"""YOLOv3's anchors."""

OPTIMAL = Head(
    ((12, 16), (19, 36), (40, 28), (36, 75), (76, 55), (72, 146), (142, 110), (192, 243), (459, 401)),
    scale_xy=(1.2, 1.1, 1.05),
)
"""YOLOv4's anchors."""


def predictor(inputs: int, num_classes: int) -> nn.Sequential:
    """3x3 to twice the channels, then a linear 1x1 with bias to 3 · (5 + num_classes)."""
    outputs = ANCHORS_PER_CELL * (CODES + num_classes)
    return nn.Sequential(Unit(inputs, 2 * inputs, 3), nn.Conv2d(2 * inputs, outputs, 1))


class YoloDetector(nn.Module):
    """A network that ends in YOLO layers. forward: pictures [N, 3, H, W] -> raw maps of strides 8, 16 and 32, each
    [N, 3 · (5 + num_classes), h, w] with channel = anchor · (5 + num_classes) + (x, y, w, h, objectness, classes …).
    """

    output_names = ("yolo_p3", "yolo_p4", "yolo_p5")

    def __init__(self, head: Head, image_size: tuple[int, int], num_classes: int) -> None:
        super().__init__()
        self.head, self.image_size, self.num_classes = head, image_size, num_classes
        self.register_buffer("gains", head.gains(image_size), persistent=False)

    def priors(self) -> Tensor:
        """Anchors [A, 4]: `Head.priors`."""
        return self.head.priors(self.image_size)

    def predictions(self, heads: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """What forward returned -> box codes [N, A, 4] and scores [N, A, num_classes] in 0..1.

        Codes are ty, tx, th, tw against `priors`: centre = t · side + prior's centre, side = exp(t) · prior's side.
        """
        raw, gains = flatten_levels(heads, CODES + self.num_classes), self.get_buffer("gains")
        centre = raw[..., 0:2].sigmoid() - 0.5
        codes = [centre[..., 1:2] * gains[:, 0:1], centre[..., 0:1] * gains[:, 1:2], raw[..., 3:4], raw[..., 2:3]]
        return torch.cat(codes, -1), raw[..., 4:5].sigmoid() * raw[..., CODES:].sigmoid()
