"""Ops that mean nothing at inference are dropped by name (DESIGN.md §3, trap 8)."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from parity import captured, check_float, image

X = image(1, 3, 4, 4)

NOISE = {
    "_assert_tensor_metadata and to.dtype": lambda x: x.to(torch.float32).relu(),
    "to.device": lambda x: x.to("cpu").relu(),
    "dropout": lambda x: F.dropout(x, 0.5, training=False).relu(),
    "feature_dropout": lambda x: F.dropout2d(x, 0.5, training=False).relu(),
    "alias": lambda x: torch.ops.aten.alias(x).relu(),
    "clone": lambda x: x.clone().relu(),
    "contiguous": lambda x: x.contiguous().relu(),
    "detach": lambda x: x.detach().relu(),
    "lift_fresh_copy": lambda x: (x * torch.tensor(1.0)).relu(),
    "getitem": lambda x: torch.split(x, 3, 1)[0].relu(),
    "float": lambda x: x.float().relu(),
    "type_as": lambda x: x.type_as(x).relu(),
    "expand to its own shape": lambda x: x.expand(1, 3, 4, 4).relu(),
}


@pytest.mark.parametrize("name", NOISE)
def test_noise_is_dropped(name):
    result = check_float(NOISE[name], X)
    assert result.ops == ["RELU"]


def test_noise_needs_no_node():
    assert [
        n.op.name
        for n in captured(lambda x: F.dropout(x.clone().contiguous(), training=False).detach().relu(), X).nodes
    ] == ["relu"]
