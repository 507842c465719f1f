"""Operand shapes that the two-operand ops share."""

from __future__ import annotations

import pytest
from parity import image

PAIRS = [
    pytest.param((1, 3, 5, 7), (1, 3, 5, 7), id="same-shape"),
    pytest.param((1, 3, 5, 7), (1, 3, 1, 1), id="per-channel-activation"),
    pytest.param((1, 3, 1, 1), (1, 3, 5, 7), id="per-channel-activation-first"),
    pytest.param((1, 3, 5, 7), (1, 1, 5, 7), id="per-pixel-activation"),
    pytest.param((1, 3, 5, 7), (1, 3, 5, 1), id="per-row-activation"),
    pytest.param((1, 3, 1, 1), (1, 1, 5, 7), id="both-broadcast"),
    pytest.param((2, 3, 5, 7), (1, 3, 5, 7), id="over-the-batch"),
    pytest.param((1, 3, 5, 7), (3, 5, 7), id="rank-4-and-3"),
    pytest.param((1, 3, 5, 7), (5, 7), id="rank-4-and-2"),
    pytest.param((1, 3, 5, 7), (7,), id="rank-4-and-1"),
    pytest.param((1, 3, 5, 7), (1,), id="rank-4-and-one-element"),
    pytest.param((4, 5), (4, 5), id="rank-2"),
    pytest.param((4, 5), (1, 5), id="rank-2-broadcast"),
    pytest.param((2, 4, 5), (2, 4, 5), id="rank-3"),
    pytest.param((2, 4, 5), (4, 1), id="rank-3-and-2"),
]

CONSTANTS = [
    pytest.param((1, 3, 5, 7), (), id="scalar"),
    pytest.param((1, 3, 5, 7), (1,), id="one-element"),
    pytest.param((1, 3, 5, 7), (1, 3, 1, 1), id="per-channel"),
    pytest.param((1, 3, 5, 7), (3, 1, 1), id="per-channel-of-rank-3"),
    pytest.param((1, 3, 5, 7), (7,), id="per-column"),
    pytest.param((1, 3, 5, 7), (5, 1), id="per-row"),
    pytest.param((1, 3, 5, 7), (1, 3, 5, 7), id="full"),
    pytest.param((1, 3, 1, 1), (1, 3, 5, 7), id="larger-than-the-tensor"),
    pytest.param((4, 5), (5,), id="rank-2"),
    pytest.param((4, 5), (4, 1), id="rank-2-per-row"),
    pytest.param((2, 4, 5), (4, 1), id="rank-3"),
    pytest.param((5,), (1, 3, 5), id="of-higher-rank"),
]

RANGES = [
    pytest.param((-1, 1), (-1, 1), id="alike"),
    pytest.param((0, 1), (-9, -4), id="positive-and-negative"),
    pytest.param((-1, 1), (-300, 300), id="300-times-apart"),
    pytest.param((-2000, 2000), (-0.5, 0.5), id="4000-times-apart"),
    pytest.param((-0.1, 5), (-5, 0.1), id="asymmetric"),
    pytest.param((-0.003, 0.003), (-0.003, 0.003), id="below-the-smallest-scale"),
]


def pair(a, b):
    """Two inputs: uniform in [-1, 1) and in [-2, 3)."""
    return image(*a), image(*b, low=-2, high=3, seed=2)


def ranged(a, b):
    """Two inputs of one shape with these ranges."""
    return image(1, 3, 5, 7, low=a[0], high=a[1]), image(1, 3, 5, 7, low=b[0], high=b[1], seed=2)
