"""Things with boxes: EfficientDet's loss.

Source: Lin et al., Focal Loss (ICCV 2017), §3 and §4; Tan et al., EfficientDet, §5.1 (alpha 0.25, gamma 1.5);
google/automl `det_model_fn.py` (Huber loss with delta 0.1, weight 50).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from benchmarks.demo.lesson import Lesson, normalised, singly
from benchmarks.demo.scenes import THINGS, Scene
from exporter.build.detection import centre_size, flatten_levels
from exporter.build.efficientdet import EfficientDet
from exporter.quantize.preprocess import Preprocess
from exporter.verify.metrics.boxes import BoxPrecision, reader

ALPHA, GAMMA = 0.25, 1.5
DELTA, BOX_WEIGHT = 0.1, 50.0
POSITIVE, NEGATIVE = 0.5, 0.4
"""IoU with a thing from which an anchor stands for it, and below which it stands for nothing."""


class Detection(Lesson):
    """Focal loss of the classes, Huber loss of the box codes, both per anchor that stands for a thing."""

    task = "detection"

    def __init__(self, model: EfficientDet, size: tuple[int, int], count: int) -> None:
        super().__init__(model, size, count)
        self.anchors = model.anchors()

    def varied(self, seen: Scene, rng: np.random.Generator) -> tuple[np.ndarray, tuple[Tensor, Tensor]]:
        pixels, (height, width) = seen.pixels, self.size
        boxes = np.array([(y, x, y + h, x + w) for (x, y, w, h), _ in seen.truth], np.float32).reshape(-1, 4)
        if rng.random() < 0.5:
            pixels, boxes = pixels[:, ::-1], boxes[:, [0, 3, 2, 1]] * (1, -1, 1, -1) + (0, width, 0, width)
        if rng.random() < 0.5:
            pixels, boxes = pixels[::-1], boxes[:, [2, 1, 0, 3]] * (-1, 1, -1, 1) + (height, 0, height, 0)
        if height == width and rng.random() < 0.5:
            pixels, boxes = pixels.transpose(1, 0, 2), boxes[:, [1, 0, 3, 2]]
        classes = torch.tensor([number for _, number in seen.truth], dtype=torch.long)
        return pixels, (torch.from_numpy(boxes.astype(np.float32)), classes)

    def loss(self, outputs: tuple[list[Tensor], list[Tensor]], truths: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        logits, codes = flatten_levels(outputs[0], len(THINGS)), flatten_levels(outputs[1], 4)
        standing = [assign(self.anchors, boxes) for boxes, _ in truths]
        thing = torch.stack([s for s, _ in standing])
        near = torch.stack([n for _, n in standing])
        wanted = torch.zeros_like(logits)
        positive = thing >= 0
        count = positive.sum().clamp(min=1)
        labels = torch.cat([classes[s[s >= 0]] for s, (_, classes) in zip(thing, truths, strict=True)])
        wanted[positive] = F.one_hot(labels, len(THINGS)).float()
        ignored = near & ~positive
        goals = torch.cat(
            [encode(boxes[s[s >= 0]], self.anchors[s >= 0]) for s, (boxes, _) in zip(thing, truths, strict=True)]
        )
        boxes_loss = F.huber_loss(codes[positive], goals, delta=DELTA, reduction="sum") / (4 * count)
        return focal(logits, wanted)[~ignored].sum() / count + BOX_WEIGHT * boxes_loss

    def score(self, model: nn.Module) -> str:
        read, _ = reader(model, self.size)
        metric = BoxPrecision(len(self.validation), read, self.size, dict(enumerate(range(1, len(THINGS) + 1))))
        view = Preprocess(size=self.size, resize="letterbox").view(self.size[1], self.size[0])
        outputs = singly(model, normalised(np.stack([s.pixels for s in self.validation])))
        for number, (found, seen) in enumerate(zip(outputs, self.validation, strict=True)):
            labelled = [
                {"bbox": list(box), "area": box[2] * box[3], "category_id": kind + 1, "iscrowd": 0, "id": i + 1}
                for i, (box, kind) in enumerate(seen.truth)
            ]
            metric.add(number, tree_leaves(found), (view, labelled))
        return "  ".join(f"{name} {value:.3f}" for name, value in zip(metric.names, metric.values(), strict=True))


def focal(logits: Tensor, wanted: Tensor) -> Tensor:
    """Focal loss of every logit, [..., classes]."""
    apart = (wanted - logits.sigmoid()).abs()
    weight = ALPHA * wanted + (1 - ALPHA) * (1 - wanted)
    return weight * apart**GAMMA * F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")


def assign(anchors: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Which box [n, 4] each anchor [A, 4] stands for (y0, x0, y1, x1): its number, or -1; and whether it is near one.

    The box of the largest IoU from POSITIVE on; and each box has at least the anchor that fits it best.
    """
    if not len(boxes):
        none = torch.full((len(anchors),), -1)
        return none, none >= 0
    low = torch.maximum(anchors[:, None, :2], boxes[:, :2])
    high = torch.minimum(anchors[:, None, 2:], boxes[:, 2:])
    common = (high - low).clamp(min=0).prod(-1)
    areas = (anchors[:, 2:] - anchors[:, :2]).prod(-1)[:, None] + (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    overlap = common / (areas - common)
    most, number = overlap.max(1)
    number[most < POSITIVE] = -1
    number[overlap.argmax(0)] = torch.arange(len(boxes))
    return number, most >= NEGATIVE


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Box codes ty, tx, th, tw of boxes against anchors, both [n, 4]: what `exporter.ir.detection.decode` undoes."""
    box, anchor = centre_size(boxes), centre_size(anchors)
    return torch.cat([(box[:, :2] - anchor[:, :2]) / anchor[:, 2:], (box[:, 2:] / anchor[:, 2:]).log()], 1)
