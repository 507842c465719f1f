"""95 % intervals: Wilson's for shares of independent images, the bootstrap over images for everything else."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

RESAMPLES, SEED = 500, 0
NORMAL = 1.959963984540054
"""Quantile of the standard normal distribution at 97.5 %."""


def wilson(share: float, count: int) -> tuple[float, float]:
    """Wilson's score interval of `share` of `count` (E. B. Wilson 1927, JASA 22: 209)."""
    z = NORMAL**2 / count
    middle = (share + z / 2) / (1 + z)
    half = math.sqrt(share * (1 - share) * z + z * z / 4) / (1 + z)
    return max(0.0, middle - half), min(1.0, middle + half)


def resamples(count: int) -> Iterator[np.ndarray]:
    """How often each of `count` images was drawn, with replacement; the same draws on every call."""
    rng = np.random.default_rng(SEED)
    for _ in range(RESAMPLES):
        yield np.bincount(rng.integers(0, count, count), minlength=count)


def middle(figures: np.ndarray) -> tuple[float, float] | None:
    """The range of the middle 95 % of figures [resamples]; NaN are left out. None where fewer than half are numbers."""
    known = figures[np.isfinite(figures)]
    if 2 * len(known) < len(figures) or not len(known):
        return None
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)
