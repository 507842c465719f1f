"""What lies behind the things of a scene and on them, and the camera that takes the picture.

Pictures are float32 [height, width, 3] in 0..1, RGB. A field is float32 [height, width] in 0..1 and mixes two colours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

Rng = np.random.Generator
Field = Callable[[np.ndarray, np.ndarray, float, Rng], np.ndarray]
"""x and y of every pixel, a period in pixels, and a source of chance -> the field."""
OCTAVES = (2, 4, 8, 16)


def grid(height: int, width: int, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates x, y of every pixel in pixels, from the middle, turned by a random angle."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = x - (width - 1) / 2, y - (height - 1) / 2
    angle = rng.uniform(0, 2 * np.pi)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return c * x + s * y, c * y - s * x


def plain(x: np.ndarray, y: np.ndarray, period: float, rng: Rng) -> np.ndarray:
    """A slight gradient."""
    span = np.float32(max(np.abs(x).max(), 1))
    return np.float32(0.15) * (x / span + 1)


def gradient(x: np.ndarray, y: np.ndarray, period: float, rng: Rng) -> np.ndarray:
    """From one colour to the other, once across."""
    span = np.float32(max(np.abs(x).max(), 1))
    return np.float32(0.5) * (x / span + 1)


def stripes(x: np.ndarray, y: np.ndarray, period: float, rng: Rng) -> np.ndarray:
    """Bands, `period` pixels each pair."""
    return _step(np.sin(x * np.float32(2 * np.pi / period) + np.float32(rng.uniform(0, 6.3))))


def checkers(x: np.ndarray, y: np.ndarray, period: float, rng: Rng) -> np.ndarray:
    """Squares of half a period."""
    turn = np.float32(2 * np.pi / period)
    return _step(2 * np.sin(x * turn) * np.sin(y * turn))


def dots(x: np.ndarray, y: np.ndarray, period: float, rng: Rng) -> np.ndarray:
    """Discs on a grid of `period` pixels."""
    turn = np.float32(2 * np.pi / period)
    return _step(np.cos(x * turn) + np.cos(y * turn) - np.float32(0.8))


def fractal(x: np.ndarray, y: np.ndarray, period: float, rng: Rng) -> np.ndarray:
    """Smooth noise of several octaves, each half as strong as the one before."""
    height, width = x.shape
    total, weight = np.zeros((height, width), np.float32), 1.0
    for cells in OCTAVES:
        values = rng.random((cells + 1, cells + 1), dtype=np.float32)
        total += np.float32(weight) * (_between(height, cells) @ values @ _between(width, cells).T)
        weight *= rng.uniform(0.4, 0.8)
    low, high = total.min(), total.max()
    return (total - low) / max(high - low, np.float32(1e-6))


def _step(wave: np.ndarray) -> np.ndarray:
    """A wave around 0 as a field with edges of about a pixel."""
    return np.clip(wave * np.float32(2.5) + np.float32(0.5), 0, 1)


@lru_cache(maxsize=256)
def _between(pixels: int, cells: int) -> np.ndarray:
    """Linear interpolation of cells + 1 values to `pixels` pixels, as a matrix [pixels, cells + 1]."""
    place = np.linspace(0, cells, pixels, dtype=np.float32)
    return np.clip(1 - np.abs(place[:, None] - np.arange(cells + 1, dtype=np.float32)), 0, 1).astype(np.float32)


SMOOTH = (plain, gradient, fractal)
BACKGROUNDS = (plain, gradient, stripes, checkers, dots, fractal, fractal, fractal)


def mixed(field: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """A field as a picture of two colours [2, 3]."""
    first, second = colours.astype(np.float32)
    return first + (second - first) * field[..., None]


def two_colours(rng: Rng, contrast: tuple[float, float]) -> np.ndarray:
    """Two random colours [2, 3] whose distance, as a share of the longest there is, lies in `contrast`."""
    first = rng.random(3)
    way = rng.normal(size=3)
    second = first + way / np.linalg.norm(way) * rng.uniform(*contrast) * 3**0.5
    return np.stack([first, np.clip(second, 0, 1)])


def background(height: int, width: int, rng: Rng, kinds: Sequence[Field] = BACKGROUNDS) -> np.ndarray:
    """One of the fields `kinds` in two colours, with noise of several octaves over it."""
    kind = kinds[rng.integers(len(kinds))]
    x, y = grid(height, width, rng)
    scene = mixed(kind(x, y, rng.uniform(8, 50), rng), two_colours(rng, (0.05, 0.5)))
    if rng.random() < 0.5:
        scene += np.float32(rng.uniform(0.05, 0.3)) * (fractal(x, y, 0, rng)[..., None] - np.float32(0.5))
    return scene.astype(np.float32)


def photograph(scene: np.ndarray, rng: Rng) -> np.ndarray:
    """What a camera makes of a scene: uint8 [height, width, 3].

    Uneven light and shadows, colour cast, blur, exposure, gamma, noise. One picture in three is badly exposed: down to
    an eighth of the light, or so much of it that most is saturated.
    """
    height, width = scene.shape[:2]
    x, y = grid(height, width, rng)
    scene = np.clip(scene, 0, 1)
    if rng.random() < 0.5:
        scene = scene * (1 - np.float32(rng.uniform(0.2, 0.7)) * gradient(x, y, 0, rng))[..., None]
    if rng.random() < 0.3:
        edge = np.clip(y / np.float32(rng.uniform(1, 12)) + np.float32(rng.uniform(-3, 3)), 0, 1)
        scene = scene * (1 - np.float32(rng.uniform(0.3, 0.6)) * edge)[..., None]
    scene = scene * rng.uniform(0.75, 1.25, 3).astype(np.float32)
    if rng.random() < 0.6:
        scene = _blurred(scene, rng.uniform(0.3, 1.3))
    exposure, noise = rng.random(), rng.uniform(0, 0.02)
    if exposure < 0.2:
        light = np.exp(rng.uniform(np.log(0.12), np.log(0.5)))
        scene, noise = scene * np.float32(light), noise * light
    elif exposure < 0.33:
        scene = scene * np.float32(rng.uniform(1.5, 3.0))
    else:
        scene = np.clip(scene, 0, None) ** np.float32(np.exp(rng.uniform(-0.5, 0.5)))
    if rng.random() < 0.15:  # fog
        scene = np.float32(rng.uniform(0.2, 0.8)) + (scene - np.float32(0.5)) * np.float32(rng.uniform(0.15, 0.5))
    scene = scene + np.float32(noise) * rng.standard_normal(scene.shape, dtype=np.float32)
    return np.round(np.clip(scene, 0, 1) * 255).astype(np.uint8)


def _blurred(picture: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of `sigma` pixels, up to three pixels away."""
    weights = np.exp(-0.5 * (np.arange(-3, 4) / sigma) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    for axis in (0, 1):
        padded = np.pad(picture, [(3, 3) if a == axis else (0, 0) for a in range(3)], mode="edge")
        size = picture.shape[axis]
        picture = sum(w * padded.take(range(i, i + size), axis) for i, w in enumerate(weights))
    return picture
