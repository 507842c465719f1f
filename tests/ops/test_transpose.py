"""transpose: one TRANSPOSE from storage order to storage order, or none."""

from __future__ import annotations

import pytest
import torch.nn.functional as F
from parity import check_float, check_int8, image
from torch import Tensor


def pool(x: Tensor) -> Tensor:
    """An op that needs NHWC."""
    return F.max_pool2d(x, 2)


CASES = [
    pytest.param(lambda x: x.permute(0, 2, 3, 1), (1, 3, 4, 5), ["TRANSPOSE"], id="to-channels-last"),
    pytest.param(lambda x: x.permute(0, 3, 1, 2), (1, 3, 4, 5), ["TRANSPOSE"], id="to-channels-first"),
    pytest.param(lambda x: x.transpose(2, 3), (2, 3, 4, 5), ["TRANSPOSE"], id="rows-and-columns"),
    pytest.param(lambda x: x.transpose(-1, 1), (1, 3, 4, 5), ["TRANSPOSE"], id="negative-dims"),
    pytest.param(lambda x: x.permute(3, 2, 1, 0), (2, 3, 4, 5), ["TRANSPOSE"], id="reversed"),
    pytest.param(lambda x: x.t(), (4, 5), ["TRANSPOSE"], id="matrix"),
    pytest.param(lambda x: x.transpose(1, 2), (2, 4, 5), ["TRANSPOSE"], id="rank-3"),
    pytest.param(
        lambda x: pool(x).flatten(2).transpose(1, 2), (1, 3, 4, 6), ["MAX_POOL_2D", "RESHAPE"], id="map-to-tokens"
    ),
    pytest.param(
        lambda x: pool(x).permute(0, 2, 3, 1).reshape(1, -1, 3),
        (1, 6, 4, 6),
        ["MAX_POOL_2D", "RESHAPE"],
        id="detection-head",
    ),
    pytest.param(lambda x: pool(x).permute(0, 2, 3, 1), (1, 3, 4, 6), ["MAX_POOL_2D"], id="output-channels-last"),
    pytest.param(lambda x: pool(x.permute(0, 3, 1, 2)), (1, 4, 6, 3), ["MAX_POOL_2D"], id="input-channels-last"),
    pytest.param(
        lambda x: x.transpose(1, 2).view(1, 3, 4, 5).sigmoid(), (1, 20, 3), ["RESHAPE", "LOGISTIC"], id="tokens-to-map"
    ),
    pytest.param(
        lambda x: pool(pool(x).flatten(2).transpose(1, 2).tanh().transpose(1, 2).view(1, 3, 4, 6)),
        (1, 3, 8, 12),
        ["MAX_POOL_2D", "RESHAPE", "TANH", "RESHAPE", "MAX_POOL_2D"],
        id="to-tokens-and-back",
    ),
]


@pytest.mark.parametrize(("model", "shape", "ops"), CASES)
def test_float(model, shape, ops):
    assert check_float(model, image(*shape)).ops == ops


@pytest.mark.parametrize(("model", "shape", "ops"), CASES)
def test_int8(model, shape, ops):
    assert check_int8(model, image(*shape, high=2)).ops == ops
