"""amax: over pixels, channels and all; global max pools."""

from __future__ import annotations

import pytest
from parity import check_float, check_int8, image
from torch import nn

CASES = {
    "pixels": lambda x: x.amax((2, 3)),
    "pixels, kept": lambda x: x.amax((2, 3), keepdim=True),
    "channels": lambda x: x.amax(1, keepdim=True),
    "rows": lambda x: x.amax(2),
    "all": lambda x: x.amax().reshape(1),
    "max along a dim": lambda x: x.max(1, keepdim=True).values,
    "max of all": lambda x: x.max().reshape(1),
    "global max pool": nn.AdaptiveMaxPool2d(1),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("check", [check_float, check_int8])
def test_amax(check, case):
    result = check(CASES[case], image(1, 6, 5, 7, low=-3, high=2))
    assert "REDUCE_MAX" in result.ops
    assert result.outside == ()
