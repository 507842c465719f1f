"""drop_identities: what changes nothing goes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from parity import image
from rewriting import ops, rewrite

from exporter.simplify.identities import drop_identities

X = image(1, 3, 6, 6)

GOES = {
    "reshape": lambda x: x.reshape(1, 3, 6, 6),
    "resize_nearest": lambda x: F.interpolate(x, (6, 6), mode="nearest"),
    "resize_bilinear": lambda x: F.interpolate(x, (6, 6), mode="bilinear"),
    "aligned resize_bilinear": lambda x: F.interpolate(x, (6, 6), mode="bilinear", align_corners=True),
    "slice": lambda x: x[:, :3],
    "transpose": lambda x: x.permute(0, 1, 2, 3),
    "pad": lambda x: F.pad(x, (0, 0, 0, 0)),
    "concat of one": lambda x: torch.cat([x], 1),
    "max_pool2d": lambda x: F.max_pool2d(x, 1, 1),
    "avg_pool2d": lambda x: F.avg_pool2d(x, 1, 1),
    "adaptive pool to its own size": lambda x: F.adaptive_avg_pool2d(x, 6),
    "mul": lambda x: x * 1.0,
    "mul first": lambda x: 1.0 * x,
    "mul per channel": lambda x: x * torch.ones(3, 1, 1),
    "add": lambda x: x + 0.0,
    "sub": lambda x: x - torch.zeros(1, 3, 1, 1),
}

STAYS = {
    "reshape": lambda x: x.reshape(1, 6, 3, 6),
    "resize": lambda x: F.interpolate(x, (6, 7), mode="nearest"),
    "slice": lambda x: x[:, :2],
    "slice with a step": lambda x: x[:, ::2],
    "transpose of equal sizes": lambda x: x.transpose(2, 3),
    "concat of two": lambda x: torch.cat([x, x], 1),
    "max_pool2d with a stride": lambda x: F.max_pool2d(x, 1, 2),
    "avg_pool2d": lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
    "mul": lambda x: x * 1.0001,
    "mul that broadcasts": lambda x: x * torch.ones(2, 3, 1, 1),
    "one minus x": lambda x: 0.0 - x,
}


@pytest.mark.parametrize("name", GOES)
def test_goes(name):
    assert ops(rewrite(lambda x: GOES[name](x.tanh()), X, by=[drop_identities])) == ["tanh"]


@pytest.mark.parametrize("name", STAYS)
def test_stays(name):
    assert len(ops(rewrite(lambda x: STAYS[name](x.tanh()), X, by=[drop_identities]))) == 2


def test_chains_of_identities_go():
    assert ops(rewrite(lambda x: (x.tanh() * 1.0 + 0.0)[:, :3].reshape(1, 3, 6, 6), X, by=[drop_identities])) == [
        "tanh"
    ]
