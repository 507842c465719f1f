"""split_linears: q, k and v of attention are layers of their own."""

from __future__ import annotations

import pytest
import torch
from parity import image
from rewriting import ops, rewrite
from torch import nn

from exporter.simplify.split_linears import split_linears

X = image(2, 5, 8)
QKV = nn.Linear(8, 24)

GOES = {
    "chunk": lambda x: QKV(x).chunk(3, -1),
    "split": lambda x: QKV(x).split([4, 8, 12], -1),
    "a slice alone": lambda x: QKV(x)[..., 4:9],
    "some features unread": lambda x: (QKV(x)[..., :4], QKV(x)[..., 6:]),
    "reshaped": lambda x: QKV(x).reshape(2, 5, 3, 8).unbind(2),
    "reshaped and permuted": lambda x: QKV(x).reshape(2, 5, 3, 4, 2).permute(2, 0, 3, 1, 4).unbind(0),
    "reshaped twice": lambda x: QKV(x).reshape(2, 5, 3, 8).reshape(10, 3, 4, 2).permute(1, 0, 2, 3).chunk(3, 0),
}

STAYS = {
    "another reader": lambda x: (QKV(x), *QKV(x).chunk(3, -1)),
    "slices that overlap": lambda x: (QKV(x)[..., :9], QKV(x)[..., 8:]),
    "a step": lambda x: QKV(x)[..., ::2],
    "slices of tokens": lambda x: QKV(x)[:, :2],
    "heads outermost": lambda x: QKV(x).reshape(2, 5, 4, 3, 2).unbind(3),
    "an activation in between": lambda x: torch.relu(QKV(x)).chunk(3, -1),
}


def shared(model):
    """The same model with one call of the layer."""

    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv = QKV

        def forward(self, x):
            return model(x)

    return Shared()


@pytest.mark.parametrize("name", GOES)
def test_goes(name):
    from exporter.simplify.duplicates import merge_duplicates

    assert "slice" not in ops(rewrite(shared(GOES[name]), X, by=[merge_duplicates, split_linears]))


@pytest.mark.parametrize("name", STAYS)
def test_stays(name):
    from exporter.simplify.duplicates import merge_duplicates

    found = ops(rewrite(shared(STAYS[name]), X, by=[merge_duplicates, split_linears]))
    assert "slice" in found
    assert found.count("linear") == 1
