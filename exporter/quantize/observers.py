"""Observers of activations: collect per image, merge, finish with a range. Memory does not grow with the images.

Minimum and maximum are exact, over every element. Histograms count a strided sample of each tensor, at most `SAMPLE`
elements an image, so that calibration runs at about the speed of the float model: EfficientDet-D0 at 512 x 512 takes
192 CPU ms an image on one x86 thread, 204 with minimum and maximum, 238 with histograms. Nothing is random.
"""

from __future__ import annotations

import math
from array import array
from functools import lru_cache
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor

from exporter.errors import DataError, UsageError, nearest

SAMPLE = 16384
"""Elements of a tensor that a histogram counts, per image: MSE ranges lose 0.1 dB or less against counting all."""
BINS = 4096
"""Bins of a histogram: between half and all of them lie inside the range seen."""
FINEST = -40
"""Exponent of the narrowest bin, far below any scale that is written (2^-14)."""
LEVELS = 256
"""Codes of an 8-bit value."""


class Observer(Protocol):
    """Statistics of one activation over many images.

    `lows` and `highs` hold the exact minimum and maximum of every image, in the order they were collected.
    """

    name: str
    lows: array[float]
    highs: array[float]

    def collect(self, x: Tensor) -> None:
        """Take in one image's float32 tensor, of any shape. DataError where it holds NaN or infinity."""

    def merge(self, other: Self) -> None:
        """Take in what `other` collected, as if its images had come after this observer's."""

    def finish(self) -> tuple[float, float]:
        """The range to quantise, `low <= 0 <= high` (TFLite's 8-bit specification asks for an exact zero)."""


class MinMax:
    """The smallest and the largest value ever seen."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lows: array[float] = array("f")
        self.highs: array[float] = array("f")
        self.low = self.high = 0.0

    def collect(self, x: Tensor) -> None:
        self._extremes(_flat(x))

    def merge(self, other: Self) -> None:
        self.lows += other.lows
        self.highs += other.highs
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)

    def finish(self) -> tuple[float, float]:
        if not self.lows:
            raise DataError(f"{self.name} was never observed", try_="calibrate with at least one sample")
        return self.low, self.high

    def _extremes(self, flat: Tensor) -> tuple[float, float]:
        if not len(flat):
            raise DataError(f"{self.name} is empty")
        smallest, largest = torch.aminmax(flat)
        low, high = smallest.item(), largest.item()
        if not (math.isfinite(low) and math.isfinite(high)):  # aminmax hands NaN on
            raise DataError(
                f"{self.name} holds {'NaN' if math.isnan(low) else 'infinity'}",
                why="a range cannot be taken from it",
                try_="run the float model on that sample: its weights or its preprocessing are wrong",
            )
        self.lows.append(low)
        self.highs.append(high)
        self.low, self.high = min(self.low, low), max(self.high, high)
        return low, high


class Histogram(MinMax):
    """Counts over bins `[k·2^e, (k+1)·2^e)`, k from `start`; `e` is the least for which `BINS` cover range and zero.

    Bin edges are absolute and widths powers of two: widening adds bins up in pairs, so the counts never depend on the
    order of images, and merging equals collecting at once. A sampled element counts for all those it stands for; the
    exact extremes, which a sample would miss, count once each.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.counts = np.zeros(BINS, dtype=np.int64)
        self.start = 0
        self.exponent = FINEST

    @property
    def width(self) -> float:
        """Width of a bin."""
        return 2.0**self.exponent

    @property
    def edges(self) -> np.ndarray:
        """The `BINS + 1` ends of the bins, float64."""
        return np.arange(self.start, self.start + BINS + 1) * self.width

    def collect(self, x: Tensor) -> None:
        flat, stride = _flat(x), _stride(x.shape)
        extremes = self._extremes(flat)
        self._cover()
        bins = flat[::stride].mul(1 / self.width).floor_().sub_(self.start).to(torch.int32)
        self.counts += torch.bincount(bins, minlength=BINS).numpy() * stride
        if stride > 1:
            for extreme in extremes:
                self.counts[math.floor(extreme / self.width) - self.start] += 1

    def merge(self, other: Self) -> None:
        super().merge(other)
        self._cover()
        self.counts += _rebin(other.counts, other.start, self.exponent - other.exponent, self.start)

    def _cover(self) -> None:
        """Widen or shift the bins where they do not reach from `low` to `high`."""
        exponent = max(self.exponent, math.frexp((self.high - self.low) / BINS)[1] - 1)  # 2^e at most a bin's share
        while math.floor(self.high / 2.0**exponent) - math.floor(self.low / 2.0**exponent) >= BINS:
            exponent += 1
        start = math.floor(self.low / 2.0**exponent)
        if (exponent, start) != (self.exponent, self.start):
            self.counts = _rebin(self.counts, self.start, exponent - self.exponent, start)
            self.exponent, self.start = exponent, start


class Percentile(Histogram):
    """Cuts `(100 - percentile) / 2` percent of the elements off each end."""

    def __init__(self, name: str, percentile: float = 99.99) -> None:
        if not 50 < percentile <= 100:
            raise UsageError(f"percentile {percentile} is outside (50, 100]")
        super().__init__(name)
        self.percentile = percentile

    def finish(self) -> tuple[float, float]:
        low, high = super().finish()
        below = np.concatenate([[0], np.cumsum(self.counts)])
        cut = (100 - self.percentile) / 200 * below[-1]
        left, right = np.interp([cut, below[-1] - cut], below, self.edges)
        return max(low, min(0.0, float(left))), min(high, max(0.0, float(right)))


class Mse(Histogram):
    """The affine quantiser of least expected squared error, over scales and all zero points.

    Inside a bin the values are taken as uniform, which makes the expected error a closed form (`QuantizationError`).
    Scales fall from min-max's by 2^(1/4) until the error has doubled; around the best the step halves to 2^(1/32).
    """

    def finish(self) -> tuple[float, float]:
        low, high = super().finish()
        if low == high:
            return low, high
        occupied = np.flatnonzero(self.counts)
        bins = slice(occupied[0], occupied[-1] + 1)
        histogram = QuantizationError(self.counts[bins].astype(np.float64), self.edges[bins.start : bins.stop + 1])
        whole = (high - low) / (LEVELS - 1)
        errors: dict[float, tuple[float, int]] = {}

        def error(octaves: float) -> float:
            if octaves not in errors:
                by_zero = histogram.at(whole * 2.0**-octaves)
                zero = int(by_zero.argmin())
                errors[octaves] = float(by_zero[zero]), zero
            return errors[octaves][0]

        best, octaves = 0.0, 0.0
        while whole * 2.0**-octaves > self.width / 4 and error(octaves) <= 2 * error(best):
            best = octaves if error(octaves) < error(best) else best
            octaves += 1 / 4
        for step in (1 / 8, 1 / 16, 1 / 32):
            best = min((best, best + step, max(0.0, best - step)), key=error)
        scale, zero = whole * 2.0**-best, errors[best][1]
        return -zero * scale, (LEVELS - 1 - zero) * scale


class Entropy(Histogram):
    """The range whose quantised histogram has the least Kullback-Leibler divergence from the true one.

    TensorRT's method (S. Migacz, "8-bit Inference with TensorRT", GTC 2017) for affine ranges: both ends are
    searched, each over at most `ENDS` places. The bin of zero counts no more than its
    neighbour, as in NVIDIA's pytorch-quantization: a ReLU's zeros are exact in any range and would drown the rest.
    """

    def finish(self) -> tuple[float, float]:
        low, high = super().finish()
        if low == high:
            return low, high
        counts, zero = self.counts.copy(), -self.start
        if zero + 1 < BINS:
            counts[zero] = min(counts[zero], counts[zero + 1])
        left, right = least_divergence(counts, zero, LEVELS)
        return max(low, float(self.edges[left])), min(high, float(self.edges[right]))


METHODS: dict[str, type[MinMax]] = {"minmax": MinMax, "percentile": Percentile, "mse": Mse, "entropy": Entropy}


def make_observer(method: str, name: str, percentile: float = 99.99) -> Observer:
    """An observer for the value `name`; `percentile` is read by that method alone. UsageError for unknown methods."""
    if method not in METHODS:
        raise UsageError(
            f"unknown range method {method}", try_=nearest(method, METHODS) or f"one of {', '.join(METHODS)}"
        )
    return Percentile(name, percentile) if method == "percentile" else METHODS[method](name)


class QuantizationError:
    """Expected squared error of 8-bit codes, summed over the elements of a histogram.

    `counts` [n] fill the bins between `edges` [n + 1], all of one width, uniformly.
    """

    def __init__(self, counts: np.ndarray, edges: np.ndarray) -> None:
        self.counts, self.edges, self.width = counts, edges, edges[1] - edges[0]
        middle = edges[:-1] + self.width / 2
        moments = (counts, counts * middle, counts * (middle**2 + self.width**2 / 12))
        self.moments = [np.concatenate([[0.0], np.cumsum(moment)]) for moment in moments]

    def at(self, scale: float) -> np.ndarray:
        """The error for each zero point 0..255.

        Rounding error has the period `scale`; its square integrates to `scale^3·(k/12 + r^3/3)` from zero to
        `(k + r)·scale`, |r| <= 1/2. Beyond the last code the error is the distance to it, which equals the rounding
        error from half a step inside that code, so the switch may fall on the nearest bin edge.
        """
        steps = self.edges / scale
        whole = np.rint(steps)
        rest = steps - whole
        integral = (whole + 4 * rest * rest * rest) * (scale**3 / 12 / self.width)
        inside = np.concatenate([[0.0], np.cumsum(self.counts * np.diff(integral))])
        low = -np.arange(LEVELS) * scale
        high = low + (LEVELS - 1) * scale
        left, right = self._edge(low), self._edge(high)
        m0, m1, m2 = self.moments
        total: np.ndarray = inside[right] - inside[left]
        total += m2[left] - 2 * low * m1[left] + low**2 * m0[left]
        total += (m2[-1] - m2[right]) - 2 * high * (m1[-1] - m1[right]) + high**2 * (m0[-1] - m0[right])
        return total

    def _edge(self, value: np.ndarray) -> np.ndarray:
        """Index of the nearest edge."""
        nearest_edge = np.rint((value - self.edges[0]) / self.width)
        edge: np.ndarray = nearest_edge.clip(0, len(self.counts)).astype(np.int64)
        return edge


ENDS = 128
"""Places tried for one end of an entropy range."""


def least_divergence(counts: np.ndarray, zero: int, levels: int) -> tuple[int, int]:
    """The bins [left, right) of least divergence with `left <= zero <= right`, at least `levels` wide.

    Both ends first close in on zero together, each down from its own extreme; then they move in turn.
    """
    occupied = np.flatnonzero(counts)
    below, above = occupied[occupied <= zero], occupied[occupied >= zero] + 1
    lefts = _places(np.union1d(below, min(zero, occupied[0])))
    rights = _places(np.union1d(above, max(zero, occupied[-1] + 1)))

    def best(left: np.ndarray, right: np.ndarray) -> tuple[int, int]:
        wide = right - left >= min(levels, rights[-1] - lefts[0])
        left, right = left[wide], right[wide]
        least = divergence(counts, left, right, levels).argmin()
        return int(left[least]), int(right[least])

    reach = np.union1d(zero - lefts, rights - zero)
    nearest_left = lefts[np.searchsorted(lefts, zero - reach).clip(0, len(lefts) - 1)]
    nearest_right = rights[np.searchsorted(rights, zero + reach, side="right").clip(1) - 1]
    left, right = best(nearest_left, nearest_right)
    while True:
        before = left, right
        left, right = best(np.full_like(rights, left), rights)
        left, right = best(lefts, np.full_like(lefts, right))
        if (left, right) == before:
            return left, right


def divergence(counts: np.ndarray, left: np.ndarray, right: np.ndarray, levels: int) -> np.ndarray:
    """KL(P || Q) in nats for each window [left, right) of bins: infinite where clipped elements meet an empty end bin.

    P is the histogram with everything outside moved into the window's end bins. Q merges the window's bins, without
    the outliers, into `levels` cells, and spreads each cell evenly over its bins that are not empty.
    """
    c = counts.astype(np.float64)
    total, cum, cum_used, cum_log = c.sum(), *(np.concatenate([[0.0], np.cumsum(v)]) for v in (c, c > 0, _xlogx(c)))
    cells = left[:, None] + np.round(np.arange(levels + 1) * (right - left)[:, None] / levels).astype(np.int64)
    held, used = np.diff(cum[cells]), np.diff(cum_used[cells])
    spread = np.divide(held, used, out=np.zeros_like(held), where=used > 0)
    log_spread = np.log(spread, out=np.zeros_like(held), where=spread > 0)
    entropy = cum_log[right] - cum_log[left]
    cross = (held * log_spread).sum(1)
    empty_end = np.zeros(len(left), dtype=bool)
    first, last = (held > 0).argmax(1), levels - 1 - (held > 0)[:, ::-1].argmax(1)
    for end, outside, cell in ((left, cum[left], first), (right - 1, total - cum[right], last)):
        entropy += _xlogx(c[end] + outside) - _xlogx(c[end])
        cross += outside * log_spread[np.arange(len(cell)), cell]
        empty_end |= (outside > 0) & (c[end] == 0)
    result: np.ndarray = (entropy - cross) / total - np.log(total) + np.log(cum[right] - cum[left])
    result[empty_end] = np.inf
    return result


def _places(bins: np.ndarray) -> np.ndarray:
    """At most `ENDS` of the bins, evenly spread."""
    return bins[np.linspace(0, len(bins) - 1, min(ENDS, len(bins))).astype(np.int64)] if len(bins) else bins


def _xlogx(x: np.ndarray) -> np.ndarray:
    y: np.ndarray = x * np.log(np.maximum(x, 1))
    return y


def _flat(x: Tensor) -> Tensor:
    """All elements in the order they lie in memory: a channels-last tensor would else be copied, ten times slower."""
    return x.permute(_order(x.stride())).reshape(-1)


@lru_cache(maxsize=4096)
def _order(strides: tuple[int, ...]) -> tuple[int, ...]:
    """The axes from the slowest to the fastest in memory."""
    return tuple(sorted(range(len(strides)), key=lambda axis: -strides[axis]))


@lru_cache(maxsize=4096)
def _stride(shape: tuple[int, ...]) -> int:
    """A step that visits at most `SAMPLE` elements and shares no factor with an axis, lest it visit few channels."""
    stride = -(-math.prod(shape) // SAMPLE)
    while any(math.gcd(stride, size) > 1 for size in shape) and stride > 1:
        stride += 1
    return stride


def _rebin(counts: np.ndarray, start: int, octaves: int, new_start: int) -> np.ndarray:
    """The counts in bins 2^octaves times as wide, laid out from `new_start`; none may fall outside."""
    bins = ((np.arange(start, start + BINS) >> octaves) - new_start)[used := counts > 0]
    return np.bincount(bins, counts[used], minlength=BINS).astype(np.int64)
