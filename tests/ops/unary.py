"""Shapes and ranges that the element-by-element ops share."""

from __future__ import annotations

import pytest
from parity import image

INPUTS = [
    pytest.param(image(1, 3, 5, 7, low=-4, high=4), id="symmetric"),
    pytest.param(image(1, 3, 5, 7, low=0, high=3), id="positive"),
    pytest.param(image(1, 3, 5, 7, low=-0.3, high=7), id="mostly-positive"),
    pytest.param(image(1, 3, 5, 7, low=-7, high=0.3), id="mostly-negative"),
    pytest.param(image(1, 3, 5, 7, low=-60, high=60), id="wide"),
    pytest.param(image(1, 3, 5, 7, low=-0.2, high=0.2), id="narrow"),
    pytest.param(image(2, 3, 5, 7, low=-2, high=2), id="batch-2"),
    pytest.param(image(4, 9, low=-2, high=2), id="rank-2"),
    pytest.param(image(2, 4, 9, low=-2, high=2), id="rank-3"),
    pytest.param(image(9, low=-2, high=2), id="rank-1"),
]
