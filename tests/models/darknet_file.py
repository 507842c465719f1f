"""Writes darknet `.weights` files from a list of convolutions, knowing nothing of our models."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

Conv = tuple[int, int, int, bool]
"""Outputs, inputs per group, kernel side, whether a BatchNorm follows."""


def parse(convs: str) -> list[Conv]:
    """`64:3:7 255:256:1*` -> convolutions in the order of the file; a star marks one without BatchNorm."""
    found = []
    for conv in convs.split():
        outputs, inputs, kernel = map(int, conv.rstrip("*").split(":"))
        found.append((outputs, inputs, kernel, not conv.endswith("*")))
    return found


def noise(start: int, count: int) -> np.ndarray:
    """`count` values in [-1, 1) that depend on their position in the file alone."""
    x = np.arange(start, start + count, dtype=np.uint64) + np.uint64(1)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return (x >> np.uint64(40)).astype(np.float64) * 2.0**-23 - 1


def blocks(convs: list[Conv]) -> Iterator[np.ndarray]:
    """What follows the header, piece by piece: bias, scale, mean and variance where there is a BatchNorm, kernel."""
    position = 0
    for outputs, inputs, kernel, norm in convs:
        fan_in = inputs * kernel**2
        pieces = [(0.0, 0.2)] + [(1.0, 0.2), (0.0, 0.1), (1.0, 0.5)] * norm
        for centre, spread in pieces:
            yield centre + spread * noise(position, outputs)
            position += outputs
        yield math.sqrt(3 / fan_in) * noise(position, outputs * fan_in)
        position += outputs * fan_in


def write(path: Path, convs: list[Conv], version: tuple[int, int, int] = (0, 2, 5), extra: bytes = b"") -> Path:
    """A file of these convolutions; `seen` is 64 bits wide from version 0.2 on."""
    with path.open("wb") as file:
        file.write(struct.pack("<iii", *version))
        file.write(struct.pack("<q" if version[0] * 10 + version[1] >= 2 else "<i", 32_013_312))
        for block in blocks(convs):
            file.write(block.astype("<f4").tobytes())
        file.write(extra)
    return path
