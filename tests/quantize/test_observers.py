"""Observers: exact extremes, histograms that grow and merge exactly, and what each range method is for."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor

from exporter.errors import DataError, UsageError
from exporter.ir.quant import QuantParams
from exporter.quantize.observers import (
    BINS,
    METHODS,
    Histogram,
    MinMax,
    Mse,
    Observer,
    Percentile,
    QuantizationError,
    divergence,
    least_divergence,
    make_observer,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def heavy_tailed(*shape: int) -> Tensor:
    """Student's t with 3 degrees of freedom: rare values far outside the bulk."""
    return torch.from_numpy(np.random.default_rng(0).standard_t(3, shape).astype(np.float32))


def finished(method: str, *images: Tensor) -> tuple[float, float]:
    observer = make_observer(method, "x")
    for image in images:
        observer.collect(image)
    return observer.finish()


def measured_error(x: Tensor, bounds: tuple[float, float]) -> float:
    """Mean squared error of int8 codes over the range."""
    low, high = bounds
    scale = (high - low) / 255
    params = QuantParams((scale,), round(-128 - low / scale))
    return (params.dequantize(params.quantize(x)) - x).double().square().mean().item()


# Extremes


def test_minmax_is_exact_over_every_element_and_every_image() -> None:
    images = [normal(1, 40, 64, 64, seed=i) for i in range(3)]
    images[1][0, 17, 33, 5] = 99
    images[2][0, 3, 1, 60] = -77
    assert finished("minmax", *images) == (-77, 99)


@pytest.mark.parametrize("method", METHODS)
def test_range_holds_zero(method: str) -> None:
    low, high = finished(method, normal(1, 8, 16, 16).abs() + 3)
    assert low <= 0 < high
    low, high = finished(method, -normal(1, 8, 16, 16).abs() - 3)
    assert low < 0 <= high


@pytest.mark.parametrize("method", METHODS)
def test_all_zeros_give_an_empty_range(method: str) -> None:
    assert finished(method, torch.zeros(1, 4, 8, 8)) == (0, 0)


@pytest.mark.parametrize("method", METHODS)
def test_extremes_of_every_image_are_kept(method: str) -> None:
    observer = make_observer(method, "x")
    for value in (1.5, -2.0, 0.25):
        observer.collect(torch.tensor([value, 0.125]))
    assert list(observer.lows) == [0.125, -2.0, 0.125]
    assert list(observer.highs) == [1.5, 0.125, 0.25]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("bad", "word"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")])
def test_one_value_that_is_not_finite_names_the_tensor(method: str, bad: float, word: str) -> None:
    observer = make_observer(method, "backbone.blocks.0/silu")
    x = normal(1, 40, 64, 64)
    observer.collect(x)
    x[0, 39, 63, 61] = bad
    with pytest.raises(DataError, match=f"backbone.blocks.0/silu holds {word}"):
        observer.collect(x)


@pytest.mark.parametrize("method", METHODS)
def test_observer_without_images_cannot_finish(method: str) -> None:
    with pytest.raises(DataError, match="x was never observed"):
        make_observer(method, "x").finish()


def test_unknown_method_offers_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean minmax"):
        make_observer("min-max", "x")


# Histograms


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("cut", [0, 1, 9, 20])
def test_merging_equals_collecting_at_once(method: str, cut: int) -> None:
    images = [normal(1, 16, 32, 32, seed=i) * 10.0 ** (i * 3 % 5 - 2) for i in range(20)]
    whole, left, right = (make_observer(method, "x") for _ in range(3))
    for i, image in enumerate(images):
        whole.collect(image)
        (left if i < cut else right).collect(image)
    left.merge(right)
    assert left.finish() == whole.finish()
    assert (left.lows, left.highs) == (whole.lows, whole.highs)
    if isinstance(left, Histogram) and isinstance(whole, Histogram):
        assert np.array_equal(left.counts, whole.counts)
        assert np.array_equal(left.edges, whole.edges)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("at_once", [True, False])
def test_growing_histogram_counts_each_value_in_its_bin_whatever_the_order(order: tuple, at_once: bool) -> None:
    images = [normal(1, 8, 32, 32), normal(1, 8, 32, 32, seed=1) * 300, normal(1, 8, 32, 32, seed=2).abs() * 1e-4]
    histogram = Histogram("x")
    for i in order:
        histogram.collect(images[i])
        if not at_once:
            histogram.finish()
    histogram.finish()
    values = torch.cat([image.flatten() for image in images]).double().numpy()
    assert np.array_equal(histogram.counts, np.histogram(values, histogram.edges)[0])
    assert BINS / 2 <= (values.max() - values.min()) / histogram.width < BINS


def counted(*images: Tensor) -> Histogram:
    histogram = Histogram("x")
    for image in images:
        histogram.collect(image)
    histogram.finish()
    return histogram


def test_images_of_different_sizes_are_counted_by_their_elements() -> None:
    small, large = torch.full((1, 4, 8, 8), 1.0), torch.full((1, 4, 160, 160), -1.0)
    histogram = counted(small, large, small)
    assert histogram.counts[histogram.edges[:-1] == 1].item() == 512
    assert histogram.counts[histogram.edges[:-1] == -1].item() == pytest.approx(102400, rel=0.01)


def test_sample_stands_for_all_elements_and_extremes_are_never_missed() -> None:
    for spot in range(40):
        x = normal(1, 64, 64, 64)
        x[0, 5, 6, spot] = 50
        histogram = counted(x)
        assert histogram.counts[histogram.edges[:-1] == 50].item() >= 1
        assert histogram.counts.sum() == pytest.approx(x.numel(), rel=0.01)


def test_sample_reaches_every_channel_in_both_memory_orders() -> None:
    x = torch.arange(64.0).reshape(1, 64, 1, 1).expand(1, 64, 64, 64).contiguous()
    for image in (x, x.contiguous(memory_format=torch.channels_last)):
        histogram = counted(image)
        share = histogram.counts[np.arange(64) * round(1 / histogram.width)] / histogram.counts.sum()
        assert share == pytest.approx(np.full(64, 1 / 64), rel=0.1)


def test_an_image_adds_two_numbers_to_an_observer() -> None:
    observer = Mse("x")
    sizes = []
    for i in range(300):
        observer.collect(normal(1, 4, 32, 32, seed=i % 7))
        observer.finish()
        sizes.append(len(pickle.dumps(observer)))
    assert sizes[-1] - sizes[99] <= 200 * 2 * 4 + 8


def test_samples_that_wait_are_few() -> None:
    observer = Mse("x")
    for i in range(50):
        observer.collect(normal(1, 16, 64, 64, seed=i))
        assert len(pickle.dumps(observer)) < BINS * 8 + 10_000


# Percentile


@pytest.mark.parametrize("percentile", [99.0, 99.9, 99.99])
def test_percentile_cuts_both_ends_as_torch_quantile_does(percentile: float) -> None:
    images = [normal(1, 2, 64, 64, seed=i) + 0.5 for i in range(16)]
    observer = Percentile("x", percentile)
    for image in images:
        observer.collect(image)
    cut = (100 - percentile) / 200
    expected = torch.quantile(torch.cat(images).flatten().double(), torch.tensor([cut, 1 - cut]).double())
    gap = 0.01 if percentile < 99.95 else 0.08  # 6 elements beyond: the quantile lies between two of them
    assert observer.finish() == pytest.approx(expected.tolist(), abs=observer.width + gap)


def test_percentile_100_is_minmax() -> None:
    x = heavy_tailed(1, 16, 64, 64)
    observer = Percentile("x", 100)
    observer.collect(x)
    assert observer.finish() == (x.min().item(), x.max().item())


@pytest.mark.parametrize("percentile", [0, 50, 100.1])
def test_percentile_outside_its_bounds_is_a_usage_error(percentile: float) -> None:
    with pytest.raises(UsageError, match="outside"):
        Percentile("x", percentile)


# Mean squared error


def test_mse_beats_minmax_on_a_heavy_tail() -> None:
    x = heavy_tailed(16, 16, 32, 32)
    assert measured_error(x, finished("mse", *x)) < 0.7 * measured_error(x, finished("minmax", *x))


def test_mse_equals_minmax_on_a_uniform_tensor() -> None:
    x = torch.linspace(-1, 1, 32 * 32 * 16).reshape(1, 16, 32, 32)
    low, high = finished("mse", x)
    assert (high - low) == pytest.approx(2, rel=0.01)
    assert measured_error(x, (low, high)) == pytest.approx(measured_error(x, finished("minmax", x)), rel=0.01)


def test_mse_clips_each_end_on_its_own() -> None:
    x = normal(1, 16, 64, 64)
    x[0, 0, 0, :8] = 40 + torch.arange(8.0)
    low, high = finished("mse", x)
    assert -4.5 < low < -3
    assert 20 < high < 47


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "make",
    [lambda x: x, lambda x: x.relu(), lambda x: torch.nn.functional.silu(3 * x), lambda x: x**3, lambda x: x.exp()],
    ids=["normal", "relu", "silu", "cube", "exp"],
)
def test_mse_is_within_four_percent_of_a_search_over_all_ranges(make, seed: int) -> None:
    x = make(normal(1, 2, 64, 64, seed=seed))
    low, high = min(0, x.min().item()), x.max().item()
    ranges = itertools.product(np.linspace(low, low / 50, 25) if low else [0], np.linspace(high, high / 50, 50))
    best = min(measured_error(x, bounds) for bounds in ranges)
    assert measured_error(x, finished("mse", x)) <= 1.04 * best


@pytest.mark.parametrize("scale", [1 / 30, 1 / 100, 1 / 250])
def test_predicted_error_is_the_measured_one_for_every_zero_point(scale: float) -> None:
    x = normal(1, 2, 64, 64)
    histogram = counted(x)
    predicted = QuantizationError(histogram.counts.astype(float), histogram.edges).at(scale) / x.numel()
    for zero in range(0, 256, 15):
        assert predicted[zero] == pytest.approx(measured_error(x, (-zero * scale, (255 - zero) * scale)), rel=0.01)


# Entropy


def kl_by_hand(counts: np.ndarray, left: int, right: int, levels: int) -> float:
    """KL(P || Q) as the TensorRT talk words it, bin by bin."""
    window = counts[left:right].astype(float)
    p = window.copy()
    p[0] += counts[:left].sum()
    p[-1] += counts[right:].sum()
    q = np.zeros_like(window)
    ends = [round(j * (right - left) / levels) for j in range(levels + 1)]
    for a, b in itertools.pairwise(ends):
        used = window[a:b] > 0
        if used.any():
            q[a:b][used] = window[a:b].sum() / used.sum()
    if ((p > 0) & (q == 0)).any():
        return np.inf
    p, q = p / p.sum(), q / q.sum()
    return float(sum(a * np.log(a / b) for a, b in zip(p, q, strict=True) if a > 0))


@pytest.mark.parametrize("seed", range(4))
def test_divergence_equals_the_definition_for_every_window(seed: int) -> None:
    counts = np.random.default_rng(seed).poisson(3 * np.exp(-(((np.arange(40) - 15) / 8) ** 2)) + 0.3)
    windows = [(a, b) for a in range(16) for b in range(16, 41) if b - a >= 8 and counts[a:b].any()]
    left, right = np.array(windows).T
    expected = [kl_by_hand(counts, a, b, 8) for a, b in windows]
    assert divergence(counts, left, right, 8) == pytest.approx(np.array(expected), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_one_sided_search_finds_the_least_divergence_of_all(seed: int) -> None:
    counts = np.bincount(np.random.default_rng(seed).exponential(6, 3000).astype(int).clip(0, 99), minlength=100)
    by_hand = {b: kl_by_hand(counts, 0, b, 8) for b in range(8, np.flatnonzero(counts)[-1] + 2)}
    left, right = least_divergence(counts, 0, 8)
    assert left == 0
    assert by_hand[right] == pytest.approx(min(by_hand.values()), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_two_sided_search_ends_where_moving_one_end_cannot_help(seed: int) -> None:
    values = np.random.default_rng(seed).laplace(40, 6, 3000)
    counts = np.bincount(values.astype(int).clip(0, 99), minlength=100)
    left, right = least_divergence(counts, 40, 8)
    least = kl_by_hand(counts, left, right, 8)
    assert least <= min(kl_by_hand(counts, left, b, 8) for b in range(max(41, left + 8), 100) if counts[b - 1]) + 1e-12
    assert least <= min(kl_by_hand(counts, a, right, 8) for a in range(min(40, right - 8) + 1) if counts[a]) + 1e-12


def test_entropy_drops_a_few_outliers_and_keeps_the_bulk() -> None:
    images = [normal(1, 16, 64, 64, seed=i) for i in range(4)]
    images[2][0, 0, 0, :4] = torch.tensor([60.0, -50.0, 55.0, 40.0])
    low, high = finished("entropy", *images)
    assert -6 < low < -2
    assert 2 < high < 6


def test_same_images_give_the_same_range_on_every_run() -> None:
    images = [heavy_tailed(1, 64, 48, 48) * (1 + i) for i in range(3)]
    for method in METHODS:
        assert finished(method, *images) == finished(method, *images)


def test_observers_of_the_table_follow_the_protocol() -> None:
    for method in METHODS:
        observer: Observer = make_observer(method, "value")
        assert observer.name == "value"
        assert isinstance(observer, MinMax)
