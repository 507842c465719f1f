"""What stands around a top-down pose estimator: a person's box into the network's input, heatmaps into joints.

Source: mmpose `bbox_xywh2cs`, `get_heatmap_maximum`, `refine_keypoints`, `flip_heatmaps` and `transform_preds`, with
the settings of Lite-HRNet's test configs (no UDP, no DARK).
Points are (x, y) in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

PADDING = 1.25
"""How much wider than a person's box the crop is."""
QUARTER = 0.25
"""Pixels of the heatmap by which a peak moves towards its larger neighbour."""

COCO_PAIRS = ((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16))
MPII_PAIRS = ((0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13))
"""Joints that a mirror image swaps, in the order of recipes/labels."""

BONES: dict[int, tuple[tuple[int, int], ...]] = {
    17: (
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10),
        (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
    ),
    16: (
        (0, 1), (1, 2), (2, 6), (6, 3), (3, 4), (4, 5), (6, 7), (7, 8), (8, 9), (8, 12), (12, 11), (11, 10), (8, 13),
        (13, 14), (14, 15),
    ),
}  # fmt: skip
"""By the number of joints, COCO's 17 and MPII's 16: pairs that a limb joins, for pictures (mmpose `skeleton_info`)."""


@dataclass(frozen=True)
class Region:
    """The part of a picture that the network sees: centre (x, y) and size (width, height), in the picture's pixels."""

    centre: tuple[float, float]
    size: tuple[float, float]


def region(box: Sequence[float], input_size: tuple[int, int], padding: float = PADDING) -> Region:
    """The region around a person's box (x, y, width, height): the box grown to the aspect of `input_size` (height,
    width), then `padding` times as large."""
    x, y, width, height = box
    aspect = input_size[1] / input_size[0]
    size = max(width, height * aspect), max(height, width / aspect)
    return Region((x + width / 2, y + height / 2), (size[0] * padding, size[1] * padding))


def cut(image: Image.Image, where: Region, input_size: tuple[int, int]) -> Image.Image:
    """The region as a picture of `input_size` (height, width), bilinear; black outside `image`."""
    height, width = input_size
    left, top = where.centre[0] - where.size[0] / 2, where.centre[1] - where.size[1] / 2
    box = (left, top, left + where.size[0], top + where.size[1])
    return image.transform((width, height), Image.Transform.EXTENT, box, Image.Resampling.BILINEAR)


def decode(heatmaps: Tensor) -> tuple[Tensor, Tensor]:
    """Heatmaps [..., H, W] -> joints [..., 2] in heatmap pixels, and scores [...], the heights of the peaks.

    The first largest element wins, and moves a quarter of a pixel towards the larger of its two neighbours in each
    direction; not in x where it stands in column 0, 1 or the last one or in row 0, nor in y likewise. A heatmap without
    a positive element has its joint at (-1, -1).
    """
    height, width = heatmaps.shape[-2:]
    flat = heatmaps.flatten(-2)
    scores, index = flat.max(-1)
    x, y = index % width, index // width

    def slope(step: int) -> Tensor:
        after, before = (index + step).clamp(max=height * width - 1), (index - step).clamp(min=0)
        return (flat.gather(-1, after[..., None]) - flat.gather(-1, before[..., None])).squeeze(-1).sign()

    inside_x, inside_y = (x > 1) & (x < width - 1), (y > 1) & (y < height - 1)
    dx = torch.where(inside_x & (y > 0), slope(1), 0)
    dy = torch.where(inside_y & (x > 0), slope(width), 0)
    joints = torch.stack([x + QUARTER * dx, y + QUARTER * dy], -1)
    return torch.where((scores > 0)[..., None], joints, -1.0), scores


def to_picture(joints: Tensor, where: Region, heatmap_size: tuple[int, int]) -> Tensor:
    """Joints [..., 2] in pixels of a heatmap of (height, width) -> in pixels of the picture that the region is of."""
    size, centre = torch.tensor(where.size), torch.tensor(where.centre)
    return joints / torch.tensor(heatmap_size[::-1]) * size + centre - size / 2


def average_with_flipped(heatmaps: Tensor, of_mirror: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """The flip test: heatmaps [..., K, H, W] averaged with those of the mirrored input, mirrored back.

    `pairs` are left and right joints, which change places. What comes back is one column too far left, for the strided
    network samples the mirror image at other pixels: it moves right by one, and keeps its first column.
    """
    order = list(range(heatmaps.shape[-3]))
    for left, right in pairs:
        order[left], order[right] = right, left
    back = of_mirror[..., order, :, :].flip(-1)
    back = torch.cat([back[..., :1], back[..., :-1]], -1)
    return (heatmaps + back) / 2
