"""space_to_depth: pixel_unshuffle, whose channels lie in another order."""

from __future__ import annotations

import pytest
from parity import check_float, check_int8, image
from torch import nn


@pytest.mark.parametrize(("channels", "block"), [(3, 2), (1, 2), (2, 3)])
@pytest.mark.parametrize("check", [check_float, check_int8])
def test_pixel_unshuffle(check, channels, block):
    result = check(nn.PixelUnshuffle(block), image(1, channels, 6, 12))
    assert "space_to_depth" in result.nodes
    assert result.outside == ()
