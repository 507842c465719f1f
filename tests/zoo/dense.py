"""Networks with an output per pixel: U-Nets, and a YOLO-style detector."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from mobilenets import unit
from torch import Tensor, nn


class UNet(nn.Module):
    """Image [N, 3, H, W] to class scores per pixel. Up by transposed convolutions, or bilinear and 3x3.

    Ronneberger et al., MICCAI 2015, figure 1.
    """

    def __init__(self, widths: tuple[int, ...] = (24, 48, 96, 160), bilinear: bool = False, classes: int = 6) -> None:
        super().__init__()
        self.bilinear = bilinear
        pairs = list(pairwise(widths))
        self.stem = nn.Sequential(unit(3, widths[0], 3), unit(widths[0], widths[0], 3))
        self.down = nn.ModuleList(nn.Sequential(nn.MaxPool2d(2), unit(i, o, 3), unit(o, o, 3)) for i, o in pairs)
        self.up = nn.ModuleList(
            unit(wide, thin, 3) if bilinear else nn.ConvTranspose2d(wide, thin, 2, 2) for thin, wide in reversed(pairs)
        )
        self.join = nn.ModuleList(unit(2 * thin, thin, 3) for thin, _ in reversed(pairs))
        self.scores = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = [self.stem(x)]
        for down in self.down:
            skips.append(down(skips[-1]))
        y = skips.pop()
        for up, join in zip(self.up, self.join, strict=True):
            if self.bilinear:
                y = F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False)
            y = join(torch.cat([skips.pop(), up(y)], 1))
        return self.scores(y)


def unet() -> nn.Module:
    return UNet()


def unet_bilinear() -> nn.Module:
    return UNet(bilinear=True)


class SuperResolution(nn.Module):
    """Image to one three times as large in both directions. Shi et al., CVPR 2016, figure 1."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 64, 5, padding=2), nn.Tanh(), nn.Conv2d(64, 32, 3, padding=1), nn.Tanh()
        )
        self.last = nn.Conv2d(32, 27, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.last(self.layers(x)), 3).clamp(0, 1)


class C2f(nn.Module):
    """Split, bottlenecks one behind the other, everything joined."""

    def __init__(self, inputs: int, outputs: int, repeats: int, shortcut: bool) -> None:
        super().__init__()
        self.half, self.shortcut = outputs // 2, shortcut
        self.first = unit(inputs, outputs, act=nn.SiLU)
        self.steps = nn.ModuleList(
            nn.Sequential(unit(self.half, self.half, 3, act=nn.SiLU), unit(self.half, self.half, 3, act=nn.SiLU))
            for _ in range(repeats)
        )
        self.last = unit(self.half * (2 + repeats), outputs, act=nn.SiLU)

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.first(x).chunk(2, 1))
        for step in self.steps:
            y = step(parts[-1])
            parts.append(parts[-1] + y if self.shortcut else y)
        return self.last(torch.cat(parts, 1))


class SPPF(nn.Module):
    """Three 5x5 max-pools in a row see 5, 9 and 13 pixels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first, self.last = unit(inputs, inputs // 2, act=nn.SiLU), unit(inputs * 2, outputs, act=nn.SiLU)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.first(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        return self.last(torch.cat(parts, 1))


class YOLO(nn.Module):
    """Image to (box distances [N, cells, 4], class scores [N, cells, classes]) of three scales, one behind the other.

    Backbone, top-down and bottom-up neck, decoupled anchor-free head, as in the one-stage detectors since 2023.
    """

    def __init__(self, width: int = 16, classes: int = 10) -> None:
        super().__init__()
        w = [width * 2**i for i in range(5)]
        self.stem = nn.Sequential(unit(3, w[0], 3, 2, act=nn.SiLU), unit(w[0], w[1], 3, 2, act=nn.SiLU))
        self.c3 = nn.Sequential(C2f(w[1], w[1], 1, True), unit(w[1], w[2], 3, 2, act=nn.SiLU), C2f(w[2], w[2], 2, True))
        self.c4 = nn.Sequential(unit(w[2], w[3], 3, 2, act=nn.SiLU), C2f(w[3], w[3], 1, True))
        self.c5 = nn.Sequential(unit(w[3], w[4], 3, 2, act=nn.SiLU), C2f(w[4], w[4], 1, True), SPPF(w[4], w[4]))
        self.p4, self.p3 = C2f(w[4] + w[3], w[3], 1, False), C2f(w[3] + w[2], w[2], 1, False)
        self.down3, self.n4 = unit(w[2], w[2], 3, 2, act=nn.SiLU), C2f(w[2] + w[3], w[3], 1, False)
        self.down4, self.n5 = unit(w[3], w[3], 3, 2, act=nn.SiLU), C2f(w[3] + w[4], w[4], 1, False)
        self.boxes = nn.ModuleList(self._branch(n, 4) for n in w[2:])
        self.scores = nn.ModuleList(self._branch(n, classes) for n in w[2:])

    @staticmethod
    def _branch(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(unit(inputs, 32, 3, act=nn.SiLU), nn.Conv2d(32, outputs, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        c3 = self.c3(self.stem(x))
        c4 = self.c4(c3)
        c5 = self.c5(c4)
        p4 = self.p4(torch.cat([F.interpolate(c5, scale_factor=2), c4], 1))
        p3 = self.p3(torch.cat([F.interpolate(p4, scale_factor=2), c3], 1))
        n4 = self.n4(torch.cat([self.down3(p3), p4], 1))
        n5 = self.n5(torch.cat([self.down4(n4), c5], 1))
        levels = (p3, n4, n5)
        boxes = [head(level).flatten(2) for head, level in zip(self.boxes, levels, strict=True)]
        scores = [head(level).flatten(2) for head, level in zip(self.scores, levels, strict=True)]
        return torch.cat(boxes, 2).transpose(1, 2), torch.cat(scores, 2).sigmoid().transpose(1, 2)
