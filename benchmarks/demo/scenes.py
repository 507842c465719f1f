"""The three tasks: picture i of a split, the same bytes every time, with what is true of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from benchmarks.demo import puppets
from benchmarks.demo.scenery import BACKGROUNDS, SMOOTH, Rng, background, photograph
from benchmarks.demo.things import SHAPES, TEXTURES, Box, bar, clutter, place

Task = Literal["classification", "detection", "pose"]
Split = Literal["train", "validation", "calibration", "evaluation"]

TASKS: dict[str, int] = {"classification": 1, "detection": 2, "pose": 3}
SPLITS: dict[str, int] = {"train": 1, "validation": 2, "calibration": 3, "evaluation": 4}
"""Part of the seed of every picture: pictures of different tasks or splits share nothing."""

CLASSES = tuple(f"{texture} {shape}" for shape in ("disc", "square", "star", "flower") for texture in TEXTURES)
THINGS = tuple(SHAPES)
SIZES = {"classification": (96, 96), "detection": (256, 256), "pose": (160, 160)}
"""Height and width of a picture in pixels."""
PIXELS_PER_THING = 7000
"""Of a detection picture: 128 x 128 holds up to three things, 256 x 256 up to ten."""
MOST_OVERLAP = 0.3
TEXTURED = 0.2
"""How often what lies behind a thing that is to be classified may have one of the textures itself."""


@dataclass(frozen=True)
class Scene:
    """A picture, uint8 [height, width, 3] RGB, and its truth.

    classification: the class number. detection: a list of (box, class number). pose: a list of (box, joints [17, 3]:
    x, y, and 2 where it is inside the picture, else 0).
    """

    pixels: np.ndarray
    truth: Any


def scene(task: Task, split: Split, index: int, size: tuple[int, int] | None = None) -> Scene:
    """Picture `index` of a split, of the task's own size (height, width) or another."""
    rng = np.random.default_rng([TASKS[task], SPLITS[split], index])
    make = {"classification": _one_thing, "detection": _many_things, "pose": _figures}[task]
    return make(*(size or SIZES[task]), rng)


def _one_thing(height: int, width: int, rng: Rng) -> Scene:
    number = int(rng.integers(len(CLASSES)))
    texture, shape = CLASSES[number].split()
    picture = background(height, width, rng, BACKGROUNDS if rng.random() < TEXTURED else SMOOTH)
    clutter(picture, int(rng.integers(0, 10)), rng)
    radius = rng.uniform(0.24, 0.45) * min(height, width)
    centre = rng.uniform(radius * 0.8, width - radius * 0.8), rng.uniform(radius * 0.8, height - radius * 0.8)
    place(picture, centre, radius, shape, texture, rng)
    if rng.random() < 0.3:
        bar(picture, rng.uniform(2, radius * 0.4), rng)
    return Scene(photograph(picture, rng), number)


def _many_things(height: int, width: int, rng: Rng) -> Scene:
    picture = background(height, width, rng)
    area = height * width
    clutter(picture, int(rng.integers(0, 1 + area // 1500)), rng)
    wanted = int(rng.integers(1, 2 + area // PIXELS_PER_THING))
    found: list[tuple[Box, int]] = []
    for _ in range(3 * wanted):
        if len(found) == wanted:
            break
        radius = float(np.exp(rng.uniform(np.log(13), np.log(min(50, 0.4 * min(height, width))))))
        x, y = rng.uniform(radius * 0.7, width - radius * 0.7), rng.uniform(radius * 0.7, height - radius * 0.7)
        if any(_overlap((x, y, radius), box) > MOST_OVERLAP for box, _ in found):
            continue
        number = int(rng.integers(len(THINGS)))
        texture = list(TEXTURES)[rng.integers(len(TEXTURES))]
        found.append((place(picture, (x, y), radius, THINGS[number], texture, rng), number))
    if rng.random() < 0.3:
        bar(picture, rng.uniform(2, 6), rng)
    return Scene(photograph(picture, rng), found)


def _overlap(circle: tuple[float, float, float], box: Box) -> float:
    """How much of the smaller of a box and the square around a circle the other covers."""
    x, y, radius = circle
    wide = min(x + radius, box[0] + box[2]) - max(x - radius, box[0])
    high = min(y + radius, box[1] + box[3]) - max(y - radius, box[1])
    return max(wide, 0) * max(high, 0) / max(min(4 * radius**2, box[2] * box[3]), 1)


def _figures(height: int, width: int, rng: Rng) -> Scene:
    picture = background(height, width, rng)
    clutter(picture, int(rng.integers(0, 12)), rng)
    found = []
    number = 1 if rng.random() < 0.7 else 2
    for i in range(number):
        tall = rng.uniform(0.55, 0.85) * height
        x = width * (0.5 if number == 1 else (0.3, 0.7)[i]) + rng.normal(0, 0.06 * width)
        joints = puppets.pose((x, height * 0.48 + rng.normal(0, 0.03 * height)), tall, rng)
        puppets.draw(picture, joints, tall, rng)
        found.append(_labelled(joints, tall, height, width))
    if rng.random() < 0.25:
        bar(picture, rng.uniform(2, 8), rng)
    return Scene(photograph(picture, rng), found)


def _labelled(joints: np.ndarray, tall: float, height: int, width: int) -> tuple[Box, np.ndarray]:
    inside = ((joints >= 0) & (joints <= (width - 1, height - 1))).all(1)
    points = np.concatenate([joints * inside[:, None], 2.0 * inside[:, None]], 1)
    low = np.maximum(joints.min(0) - tall / 16, 0)
    high = np.minimum(joints.max(0) + tall / 16, (width, height))
    return (*map(float, low), *map(float, high - low)), points
