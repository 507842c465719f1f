"""Figures with joints: heatmaps of one figure, cut out by its box.

Source: Xiao et al., Simple Baselines (ECCV 2018), §3: mean squared error of Gaussian heatmaps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.demo.lesson import Lesson, normalised, singly
from benchmarks.demo.scenes import Scene
from exporter.build.pose import COCO_PAIRS, Region, cut, region
from exporter.verify.metrics.joints import JointPrecision, Person

SIGMA = 1.25
"""Of a joint's Gaussian, in pixels of the heatmap."""
STRIDE = 4
SWAPPED = np.arange(17)
for _left, _right in COCO_PAIRS:
    SWAPPED[[_left, _right]] = _right, _left


class Pose(Lesson):
    """Mean squared error of the heatmaps of the joints inside the picture."""

    task = "pose"

    @property
    def scene_size(self) -> tuple[int, int] | None:
        return None

    def varied(self, seen: Scene, rng: np.random.Generator) -> tuple[np.ndarray, tuple[Tensor, Tensor]]:
        box, joints = seen.truth[rng.integers(len(seen.truth))]
        where = region(box, self.size)
        grown = float(np.exp(rng.normal(0, 0.12)))
        moved = rng.normal(0, 0.04, 2) * where.size
        centre = where.centre[0] + float(moved[0]), where.centre[1] + float(moved[1])
        where = Region(centre, (where.size[0] * grown, where.size[1] * grown))
        pixels = np.asarray(cut(Image.fromarray(seen.pixels), where, self.size))
        points = (joints[:, :2] - centre) / where.size + 0.5
        shown = joints[:, 2] > 0
        if rng.random() < 0.5:
            pixels, points, shown = pixels[:, ::-1], (points * (-1, 1) + (1, 0))[SWAPPED], shown[SWAPPED]
        return pixels, (torch.from_numpy(points.astype(np.float32)), torch.from_numpy(shown))

    def loss(self, outputs: Tensor, truths: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        points, shown = (torch.stack(part) for part in zip(*truths, strict=True))
        apart = (outputs - gaussians(points, outputs.shape[-2], outputs.shape[-1])) ** 2
        return 1000 * (apart.mean((2, 3)) * shown).mean()

    def score(self, model: nn.Module) -> str:
        cuts, people = [], []
        for number, seen in enumerate(self.validation):
            everyone = [
                {
                    "bbox": list(box),
                    "area": box[2] * box[3] / 2,
                    "category_id": 1,
                    "iscrowd": 0,
                    "id": i + 1,
                    "keypoints": joints.reshape(-1).tolist(),
                    "num_keypoints": int((joints[:, 2] > 0).sum()),
                }
                for i, (box, joints) in enumerate(seen.truth)
            ]
            for entry in everyone:
                where = region(entry["bbox"], self.size)
                cuts.append(np.asarray(cut(Image.fromarray(seen.pixels), where, self.size)))
                people.append((number, Person(where, entry, everyone)))
        metric = JointPrecision(len(self.validation), 1, range(17), ())
        for (number, person), heatmaps in zip(people, singly(model, normalised(np.stack(cuts))), strict=True):
            metric.add(number, [heatmaps], person)
        return "  ".join(f"{name} {value:.3f}" for name, value in zip(metric.names, metric.values(), strict=True))


def gaussians(points: Tensor, height: int, width: int) -> Tensor:
    """Joints [N, K, 2], x and y as parts of the input, -> heatmaps [N, K, height, width] with peaks of 1.

    A joint at x of the input's pixels stands at x / STRIDE of the heatmap's, as `exporter.build.pose` reads it.
    """
    x = torch.arange(width) - points[..., :1] * width
    y = torch.arange(height) - points[..., 1:] * height
    return (-(x[..., None, :] ** 2 + y[..., :, None] ** 2) / (2 * SIGMA**2)).exp()
