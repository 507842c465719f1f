"""Strided slices that are joined again are space_to_depth."""

from __future__ import annotations

import pytest
import torch
from parity import check_float, check_int8, image
from rewriting import ops, rewrite
from torch import nn

from exporter.simplify.space_to_depth import recognise_space_to_depth

X = image(1, 3, 8, 12)


def focus(x, pixels=((0, 0), (1, 0), (0, 1), (1, 1)), block=2):
    return torch.cat([x[..., i::block, j::block] for i, j in pixels], 1)


APPLIES = {
    "YOLOv5": (focus, ["space_to_depth", "gather_channels"]),
    "row by row": (lambda x: focus(x, ((0, 0), (0, 1), (1, 0), (1, 1))), ["space_to_depth"]),
    "of four": (
        lambda x: focus(x, [(i, j) for j in range(4) for i in range(4)], 4), ["space_to_depth", "gather_channels"]
    ),
}  # fmt: skip
STAYS = {
    "a pixel twice": lambda x: focus(x, ((0, 0), (1, 0), (0, 1), (0, 1))),
    "a pixel missing": lambda x: focus(x, ((0, 0), (1, 0), (0, 1))),
    "odd size": lambda x: focus(x[:, :, :7], ((0, 0), (0, 1))),
    "two images": lambda x: torch.cat([focus(x, ((0, 0), (1, 0))), focus(x * 2, ((0, 1), (1, 1)))], 1),
    "rows alone": lambda x: torch.cat([x[:, :, ::2], x[:, :, 1::2]], 1),
    "a shorter end": lambda x: torch.cat([x[..., i:6:2, j::2] for i in (0, 1) for j in (0, 1)], 1),
}


@pytest.mark.parametrize("name", APPLIES)
def test_applies(name):
    model, expected = APPLIES[name]
    assert ops(rewrite(model, X, by=[recognise_space_to_depth])) == expected


@pytest.mark.parametrize("name", STAYS)
def test_declines(name):
    assert "space_to_depth" not in ops(rewrite(STAYS[name], X, by=[recognise_space_to_depth]))


@pytest.mark.parametrize("check", [check_float, check_int8])
def test_the_order_of_the_channels_folds_into_the_convolution_behind(check):
    conv = nn.Conv2d(12, 8, 3, padding=1)
    result = check(lambda x: conv(focus(x)), X)
    assert result.ops == ["SPACE_TO_DEPTH", "CONV_2D"]
    assert result.outside == ()
