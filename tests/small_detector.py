"""A detector small enough for every test: one level of 6 x 6 cells, one square anchor each, three classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SIZE, STRIDE, CLASSES = 48, 8, 3
CELLS = SIZE // STRIDE


class SmallDetector(nn.Module):
    """forward: [N, 3, 48, 48] -> (class logits [N, 3, 6, 6], box codes [N, 4, 6, 6])."""

    num_classes = CLASSES
    output_names = ("class", "box")

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, STRIDE, STRIDE)
        self.class_head, self.box_head = nn.Conv2d(16, CLASSES, 1), nn.Conv2d(16, 4, 1)
        with torch.no_grad():
            self.class_head.weight.mul_(10.0)

    def priors(self) -> Tensor:
        grid = torch.stack(torch.meshgrid(torch.arange(CELLS), torch.arange(CELLS), indexing="ij"), -1).reshape(-1, 2)
        return torch.cat([(grid + 0.5) / CELLS, torch.full((CELLS * CELLS, 2), 2 / CELLS)], 1)

    def predictions(self, heads: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        logits, codes = (head.permute(0, 2, 3, 1).flatten(1, 2) for head in heads)
        return codes, logits.sigmoid()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(image).relu()
        return self.class_head(x), self.box_head(x)


class Shapeless(SmallDetector):
    """Its scores lack a class."""

    def predictions(self, heads: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        codes, scores = super().predictions(heads)
        return codes, scores[..., 1:]


def make() -> nn.Module:
    torch.manual_seed(0)
    return SmallDetector().eval().requires_grad_(False)


def make_shapeless() -> nn.Module:
    return Shapeless().eval().requires_grad_(False)
