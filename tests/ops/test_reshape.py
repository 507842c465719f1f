"""reshape: row-major in PyTorch's axis order, whatever the storage order."""

from __future__ import annotations

import pytest
import torch.nn.functional as F
from parity import check_float, check_int8, image
from torch import Tensor


def pool(x: Tensor) -> Tensor:
    """An op that needs NHWC."""
    return F.max_pool2d(x, 2)


CASES = [
    pytest.param(
        lambda x: pool(x).flatten(1), (1, 3, 4, 6), ["MAX_POOL_2D", "TRANSPOSE", "RESHAPE"], id="behind-a-pool"
    ),
    pytest.param(
        lambda x: pool(x.view(1, 3, 4, 5)), (1, 60), ["RESHAPE", "TRANSPOSE", "MAX_POOL_2D"], id="before-a-pool"
    ),
    pytest.param(lambda x: x.flatten(1), (1, 3, 4, 5), ["RESHAPE"], id="flatten-a-map"),
    pytest.param(lambda x: x.flatten(1), (1, 3, 1, 1), ["RESHAPE"], id="flatten-one-pixel"),
    pytest.param(lambda x: x.flatten(1), (1, 1, 4, 5), ["RESHAPE"], id="flatten-one-channel"),
    pytest.param(lambda x: x.flatten(2), (2, 3, 4, 5), ["RESHAPE"], id="flatten-pixels"),
    pytest.param(lambda x: x.view(1, 6, 2, 5), (1, 3, 4, 5), ["RESHAPE"], id="rank-4-to-4"),
    pytest.param(lambda x: x.view(1, 3, 4, 5), (1, 60), ["RESHAPE"], id="rank-2-to-4"),
    pytest.param(lambda x: x[:, :, None, None], (2, 6), ["RESHAPE"], id="unsqueeze-twice"),
    pytest.param(lambda x: x.squeeze(-1).squeeze(-1), (2, 6, 1, 1), ["RESHAPE"], id="squeeze-twice"),
    pytest.param(lambda x: x.squeeze(), (1, 6, 1, 1), ["RESHAPE"], id="squeeze-all"),
    pytest.param(lambda x: x.view(3, -1), (6, 4), ["RESHAPE"], id="rank-2"),
    pytest.param(lambda x: x.reshape(2, 3, 2, 2, 5), (2, 3, 4, 5), ["RESHAPE"], id="to-rank-5"),
    pytest.param(lambda x: x.unsqueeze(0), (3, 4), ["RESHAPE"], id="unsqueeze"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "shape", "ops"), CASES)
def test_float(model, shape, ops):
    assert check_float(model, image(*shape)).ops == ops


@pytest.mark.parametrize(("model", "shape", "ops"), CASES)
def test_int8(model, shape, ops):
    assert check_int8(model, image(*shape, high=2)).ops == ops
