"""Things that lie in a scene: flat shapes with a texture, and what stands before them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.demo import scenery
from benchmarks.demo.scenery import Rng, mixed, two_colours

Box = tuple[float, float, float, float]
"""x, y, width, height in pixels."""
Shape = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""x, y, with the shape's radius as unit -> how deep a point lies inside, negative outside, about in that unit."""


def polygon(x: np.ndarray, y: np.ndarray, corners: int) -> np.ndarray:
    sector = np.float32(2 * np.pi / corners)
    angle = np.mod(np.arctan2(y, x), sector) - sector / 2
    return np.float32(np.cos(np.pi / corners)) - np.hypot(x, y) * np.cos(angle)


def star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Five points, 0.4 of the radius between them."""
    sector = np.float32(2 * np.pi / 5)
    angle = np.abs(np.mod(np.arctan2(y, x), sector) - sector / 2)  # 0 in a notch, sector / 2 at a point
    u, v = np.hypot(x, y) * np.cos(angle), np.hypot(x, y) * np.sin(angle)
    point = np.array([np.cos(np.pi / 5), np.sin(np.pi / 5)])
    edge = point - (0.4, 0)
    across = np.array([edge[1], -edge[0]]) / np.hypot(*edge)
    return -((u - np.float32(0.4)) * np.float32(across[0]) + v * np.float32(across[1]))


def disc(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 1 - np.hypot(x, y)


def ring(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.float32(0.24) - np.abs(np.hypot(x, y) - np.float32(0.76))


def square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return polygon(x, y, 4)


def triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return polygon(x, y, 3)


def cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = np.abs(x), np.abs(y)
    long, wide = np.float32(0.95), np.float32(0.3)
    return np.maximum(np.minimum(long - x, wide - y), np.minimum(long - y, wide - x))


def crescent(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.minimum(1 - np.hypot(x, y), np.hypot(x - np.float32(0.5), y) - np.float32(0.75))


def flower(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.float32(0.75) + np.float32(0.25) * np.cos(6 * np.arctan2(y, x)) - np.hypot(x, y)


SHAPES: dict[str, Shape] = {
    "disc": disc,
    "ring": ring,
    "square": square,
    "triangle": triangle,
    "star": star,
    "cross": cross,
    "crescent": crescent,
    "flower": flower,
}
TEXTURES = {"plain": scenery.plain, "striped": scenery.stripes, "checked": scenery.checkers, "dotted": scenery.dots}


def place(scene: np.ndarray, centre: tuple[float, float], radius: float, shape: str, texture: str, rng: Rng) -> Box:
    """Paint a thing into `scene`, turned at random -> its box, the part inside the picture."""
    left, top = int(centre[0] - radius) - 1, int(centre[1] - radius) - 1
    side = int(2 * radius) + 4
    height, width = scene.shape[:2]
    rows = slice(max(top, 0), min(top + side, height))
    columns = slice(max(left, 0), min(left + side, width))
    y, x = np.mgrid[rows, columns].astype(np.float32)
    x, y = (x - np.float32(centre[0])) / np.float32(radius), (y - np.float32(centre[1])) / np.float32(radius)
    angle = rng.uniform(0, 2 * np.pi)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    x, y = c * x + s * y, c * y - s * x
    mask = np.clip(SHAPES[shape](x, y) * np.float32(radius) + np.float32(0.5), 0, 1)
    period = rng.uniform(5, 8) + radius / 8
    field = TEXTURES[texture](x * np.float32(radius), y * np.float32(radius), period, rng)
    contrast = (0.02, 0.3) if texture == "plain" else (0.2, 0.7)
    colours = two_colours(rng, contrast)
    under = scene[rows, columns]
    away = np.abs(colours.mean(0) - under.mean((0, 1))).max()
    if away < 0.12:  # not one colour with what lies under it
        colours = np.mod(colours + 0.4, 1.0)
    paint(under, mixed(field, colours), mask)
    seen_y, seen_x = np.nonzero(mask > 0.5)
    if not len(seen_x):
        return 0.0, 0.0, 0.0, 0.0
    x0, y0 = seen_x.min() + columns.start, seen_y.min() + rows.start
    return float(x0), float(y0), float(np.ptp(seen_x) + 1), float(np.ptp(seen_y) + 1)


def paint(under: np.ndarray, colour: np.ndarray, mask: np.ndarray) -> None:
    """`colour` over `under`, in place, where `mask` is 1."""
    under += mask[..., None] * (colour - under)


def bar(scene: np.ndarray, width: float, rng: Rng) -> None:
    """A straight stripe across the picture, before everything painted so far."""
    x, _ = scenery.grid(*scene.shape[:2], rng)
    offset = np.float32(rng.uniform(-0.4, 0.4) * max(scene.shape[:2]))
    mask = np.clip(np.float32(width / 2) - np.abs(x - offset) + np.float32(0.5), 0, 1)
    paint(scene, rng.random(3).astype(np.float32), mask)


def clutter(scene: np.ndarray, count: int, rng: Rng) -> None:
    """Blots and strokes, smaller than any thing that is asked for."""
    height, width = scene.shape[:2]
    for _ in range(count):
        cx, cy = int(rng.integers(width)), int(rng.integers(height))
        a, b = rng.uniform(1, 4), rng.uniform(2, 9)
        rows, columns = slice(max(cy - 9, 0), cy + 10), slice(max(cx - 9, 0), cx + 10)
        y, x = np.mgrid[rows.start : min(cy + 10, height), columns.start : min(cx + 10, width)].astype(np.float32)
        angle = rng.uniform(0, np.pi)
        c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        x, y = x - np.float32(cx), y - np.float32(cy)
        away = np.maximum(np.abs(c * x + s * y) / np.float32(b), np.abs(c * y - s * x) / np.float32(a))
        paint(scene[rows, columns], rng.random(3).astype(np.float32), np.clip((1 - away) * np.float32(a), 0, 1))
