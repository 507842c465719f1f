"""Figures with COCO's 17 joints: a head with a face, a torso and four limbs, always seen from the front.

A figure's left is right in the picture, so that left and right can be told apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.demo.scenery import Rng
from benchmarks.demo.things import paint

NOSE, EYES, EARS, SHOULDERS, ELBOWS, WRISTS, HIPS, KNEES, ANKLES = (
    0,
    (1, 2),
    (3, 4),
    (5, 6),
    (7, 8),
    (9, 10),
    (11, 12),
    (13, 14),
    (15, 16),
)
SKELETON = (
    (16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8), (7, 9), (8, 10), (9, 11),
    (2, 3), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7),
)  # fmt: skip
"""COCO's, which counts joints from 1."""


def pose(centre: tuple[float, float], height: float, rng: Rng) -> np.ndarray:
    """Joints x, y [17, 2] in pixels of a figure about `height` pixels high when it stands straight."""
    unit = height / 8  # a head is one unit high
    tilt = rng.normal(0, 0.2)
    down, right = np.array([-np.sin(tilt), np.cos(tilt)]), np.array([np.cos(tilt), np.sin(tilt)])
    joints = np.zeros((17, 2))
    hip = np.array(centre) + unit * 0.2 * down
    neck = hip - unit * rng.uniform(2.2, 2.8) * down
    nod = rng.normal(0, 0.2)
    head_down = np.array([-np.sin(tilt + nod), np.cos(tilt + nod)])
    head_right = np.array([np.cos(tilt + nod), np.sin(tilt + nod)])
    head = neck - unit * 0.95 * head_down
    joints[NOSE] = head + unit * 0.1 * head_down + unit * rng.uniform(-0.15, 0.15) * head_right
    for side in (0, 1):
        sign = 1 - 2 * side
        joints[EYES[side]] = head + sign * unit * 0.28 * head_right - unit * 0.15 * head_down
        joints[EARS[side]] = head + sign * unit * 0.62 * head_right
        joints[SHOULDERS[side]] = neck + sign * unit * rng.uniform(0.9, 1.1) * right + unit * 0.1 * down
        joints[HIPS[side]] = hip + sign * unit * rng.uniform(0.5, 0.7) * right
        upper = tilt - sign * (0.5 + rng.uniform(-0.5, 1.9))
        fore = upper - sign * rng.uniform(-0.5, 1.6)
        thigh = tilt - sign * rng.uniform(-0.15, 0.9)
        shin = thigh + sign * rng.uniform(-0.2, 0.9)
        joints[ELBOWS[side]] = joints[SHOULDERS[side]] + unit * 1.5 * _direction(upper)
        joints[WRISTS[side]] = joints[ELBOWS[side]] + unit * 1.4 * _direction(fore)
        joints[KNEES[side]] = joints[HIPS[side]] + unit * 1.8 * _direction(thigh)
        joints[ANKLES[side]] = joints[KNEES[side]] + unit * 1.7 * _direction(shin)
    return joints


def _direction(angle: float) -> np.ndarray:
    """Straight down in the picture at 0, turning clockwise."""
    return np.array([-np.sin(angle), np.cos(angle)])


def draw(scene: np.ndarray, joints: np.ndarray, height: float, rng: Rng) -> None:
    """The figure with these joints, arms behind or before the torso, each limb shaded towards its edge."""
    unit = height / 8
    skin, shirt, trousers = rng.random((3, 3))
    if np.abs(shirt - trousers).max() < 0.2:
        trousers = np.mod(trousers + 0.4, 1)
    thick = rng.uniform(0.8, 1.2)
    legs = [(HIPS, KNEES, 0.42, trousers), (KNEES, ANKLES, 0.33, trousers)]
    arms = [(SHOULDERS, ELBOWS, 0.32, shirt), (ELBOWS, WRISTS, 0.26, skin)]
    _pairs(scene, joints, legs, thick * unit)
    behind = rng.random() < 0.3
    if behind:
        _pairs(scene, joints, arms, thick * unit)
    shoulders, hips = joints[list(SHOULDERS)], joints[list(HIPS)]
    neck, along = shoulders.mean(0), hips.mean(0) - shoulders.mean(0)
    _limb(scene, neck, neck - unit * 0.3 * along / np.hypot(*along), 0.3 * unit, skin)
    for t in (0.0, 0.25, 0.5, 0.75, 1.0):
        ends = shoulders * (1 - t) + hips * t
        _limb(scene, ends[0], ends[1], 0.42 * unit, shirt, shade=0)
    if not behind:
        _pairs(scene, joints, arms, thick * unit)
    ears = joints[list(EARS)]
    head = ears.mean(0)
    _limb(scene, ears[0], ears[1], 0.16 * unit, skin)
    up = np.array([ears[0][1] - ears[1][1], -(ears[0][0] - ears[1][0])]) / (1.24 * unit) * unit
    _limb(scene, head - 0.2 * up, head + 0.2 * up, 0.62 * unit, skin)
    dark = skin * 0.2 if skin.mean() > 0.35 else 1 - skin * 0.3
    for eye in EYES:
        _limb(scene, joints[eye], joints[eye], 0.13 * unit, dark, shade=0)
    _limb(scene, joints[NOSE], joints[NOSE] - 0.1 * up, 0.1 * unit, skin * 0.5 + dark * 0.5, shade=0)


Part = tuple[tuple[int, int], tuple[int, int], float, np.ndarray]
"""Joints of both sides at either end, half the width in units, colour."""


def _pairs(scene: np.ndarray, joints: np.ndarray, parts: Sequence[Part], unit: float) -> None:
    for starts, ends, wide, colour in parts:
        for start, end in zip(starts, ends, strict=True):
            _limb(scene, joints[start], joints[end], wide * unit, colour)


def _limb(
    scene: np.ndarray, a: np.ndarray, b: np.ndarray, radius: float, colour: np.ndarray, shade: float = 0.45
) -> None:
    """All points nearer than `radius` to the line from a to b, darker towards the edge by `shade`."""
    height, width = scene.shape[:2]
    low, high = np.minimum(a, b) - radius - 2, np.maximum(a, b) + radius + 3
    left, top = np.maximum(low, 0).astype(int)
    right, bottom = np.minimum(high, (width, height)).astype(int)
    if left >= right or top >= bottom:
        return
    y, x = np.mgrid[top:bottom, left:right].astype(np.float32)
    x, y = x - np.float32(a[0]), y - np.float32(a[1])
    along = (b - a).astype(np.float32)
    t = np.clip((x * along[0] + y * along[1]) / max(along @ along, np.float32(1e-6)), 0, 1)
    away = np.hypot(x - t * along[0], y - t * along[1])
    shaded = (
        colour.astype(np.float32) * (1 - np.float32(shade) * np.clip(away / np.float32(radius), 0, 1) ** 2)[..., None]
    )
    paint(scene[top:bottom, left:right], shaded, np.clip(np.float32(radius + 0.5) - away, 0, 1))
