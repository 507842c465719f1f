"""elu: a lookup table in XNNPACK."""

from __future__ import annotations

import pytest
import torch.nn.functional as F
from parity import check_float, check_int8, image
from unary import INPUTS

from exporter.errors import UnsupportedError


@pytest.mark.parametrize("x", INPUTS)
@pytest.mark.parametrize("check", [check_float, check_int8])
def test_elu(check, x):
    result = check(F.elu, x)
    assert result.ops == ["ELU"]
    assert result.outside == ()


def test_another_alpha_is_refused():
    with pytest.raises(UnsupportedError, match=r"alpha=0.5"):
        check_float(lambda x: F.elu(x, 0.5), image(1, 3, 5, 7))
