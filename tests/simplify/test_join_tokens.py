"""Levels of a detector that are flattened and joined need one transpose, or none."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from parity import check_float, check_int8, image
from torch import Tensor, nn

X, Y = image(1, 6, 4, 5), image(1, 6, 2, 3, seed=2)


class Levels(nn.Module):
    """Two levels with a convolution each, joined as [N, C, cells]; `tail` gets the result."""

    def __init__(self, tail) -> None:
        super().__init__()
        self.heads, self.tail = nn.ModuleList(nn.Conv2d(6, 8, 1) for _ in range(2)), tail

    def forward(self, x: Tensor, y: Tensor):
        return self.tail(torch.cat([head(z).flatten(2) for head, z in zip(self.heads, (x, y), strict=True)], 2))


def decoded(z: Tensor) -> Tensor:
    """Centres and sizes from distances, times a stride for each cell, beside the scores: [N, cells, 4 + classes]."""
    boxes, scores = z.split((4, 4), 1)
    anchors = torch.arange(26.0).expand(2, 26) / 26
    low, high = boxes.chunk(2, 1)
    low, high = anchors - low, anchors + high
    strides = torch.linspace(1, 2, 26)
    return torch.cat([torch.cat([(low + high) / 2, high - low], 1) * strides, scores.sigmoid()], 1)


TAILS = {
    "as tokens": (lambda z: z.transpose(1, 2), 0),
    "as channels": (lambda z: z, 1),
    "sigmoid, as tokens": (lambda z: z.sigmoid().transpose(1, 2), 0),
    "scores and boxes": (lambda z: (z[:, :4].transpose(1, 2), z[:, 4:].softmax(1)), 1),
    "decoded": (lambda z: decoded(z).transpose(1, 2), 0),
    "decoded, as channels": (decoded, 1),
    "read twice": (lambda z: (z.transpose(1, 2), z.transpose(1, 2) * 2), 0),
}


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("check", [check_float, check_int8])
def test_transposes(check, tail):
    function, count = TAILS[tail]
    assert check(Levels(function), X, Y).ops.count("TRANSPOSE") == count


@pytest.mark.parametrize("check", [check_float, check_int8])
def test_a_sequence_that_is_no_image_stays(check):
    def model(x, y):
        return torch.cat([F.relu(x.reshape(1, 6, 20)), F.relu(y.reshape(1, 6, 6))], 2)

    check(model, X, Y)
