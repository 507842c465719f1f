"""Anchors of EfficientDet and effdet's whole post-process, in plain torch.

Box decoding and NMS themselves are `exporter.ir.detection`, shared with the files.
Source: google/automl `anchors.py`, effdet `anchors.py` and `bench.py`; facts measured against effdet 0.4.1.
Boxes are y0, x0, y1, x1 in pixels of the network's input until `postprocess` returns x0, y0, x1, y1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from exporter.ir.detection import decode, nms

Aspect = tuple[float, float]

OCTAVES = (0.0, 1 / 3, 2 / 3)

# (width, height) factors. effdet rounds sqrt(2) and its inverse to 1.4 and 0.7, and its weights were trained so;
# google/automl today derives them from the aspect ratios 1, 2, 1/2. The boxes differ by 1 %.
EFFDET_ASPECTS: tuple[Aspect, ...] = ((1.0, 1.0), (1.4, 0.7), (0.7, 1.4))
GOOGLE_ASPECTS: tuple[Aspect, ...] = ((1.0, 1.0), (2**0.5, 0.5**0.5), (0.5**0.5, 2**0.5))


def level_size(size: int, level: int) -> int:
    """Cells along an axis of `size` pixels after `level` halvings, each rounding up: n -> (n - 1) // 2 + 1."""
    for _ in range(level):
        size = (size - 1) // 2 + 1
    return size


def anchors(
    image_size: tuple[int, int],
    levels: Sequence[int],
    scale: float,
    octaves: Sequence[float] = OCTAVES,
    aspects: Sequence[Aspect] = EFFDET_ASPECTS,
) -> Tensor:
    """Anchor boxes [A, 4] fp32, in the order level, row, column, octave, aspect.

    The stride of a level is image size / cells (not 2^level when sizes are odd); the side of an anchor is
    scale · stride · 2^octave · aspect, its centre the middle of the cell.
    """
    height, width = image_size
    boxes = []
    for level in levels:
        rows, columns = level_size(height, level), level_size(width, level)
        stride_y, stride_x = height / rows, width / columns
        sides = torch.tensor(
            [
                (scale * stride_y * 2**octave * aspect[1], scale * stride_x * 2**octave * aspect[0])
                for octave in octaves
                for aspect in aspects
            ],
            dtype=torch.float64,
        )
        centre_y = (torch.arange(rows, dtype=torch.float64) + 0.5) * stride_y
        centre_x = (torch.arange(columns, dtype=torch.float64) + 0.5) * stride_x
        centres = torch.stack(torch.meshgrid(centre_y, centre_x, indexing="ij"), -1)[:, :, None]
        boxes.append(torch.cat([centres - sides / 2, centres + sides / 2], -1).reshape(-1, 4))
    return torch.cat(boxes).float()


def centre_size(boxes: Tensor) -> Tensor:
    """Boxes y0, x0, y1, x1 [..., 4] -> centre y, centre x, height, width."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(low + high) / 2, high - low], -1)


def flatten_levels(levels: Sequence[Tensor], depth: int) -> Tensor:
    """Head outputs [N, anchors · depth, H, W] per level -> [N, A, depth] in anchor order."""
    return torch.cat([level.permute(0, 2, 3, 1).reshape(level.shape[0], -1, depth) for level in levels], 1)


def postprocess(
    class_levels: Sequence[Tensor],
    box_levels: Sequence[Tensor],
    anchors: Tensor,
    image_size: tuple[int, int],
    num_classes: int = 90,
    *,
    candidates: int = 5000,
    threshold: float = 0.5,
    best: int = 100,
) -> list[Tensor]:
    """Raw head outputs of N pictures -> N tensors [<= best, 6]: x0, y0, x1, y1 in input pixels, score, class id.

    As effdet: the best logits over all (anchor, class) pairs, decoded and clipped to the input of `image_size` (H, W),
    then NMS per class. score = sigmoid(logit); the class id counts from 1, as COCO category ids do.
    """
    logits = flatten_levels(class_levels, num_classes)
    codes = flatten_levels(box_levels, 4)
    priors = centre_size(anchors)
    height, width = image_size
    limit = torch.tensor([height, width, height, width], dtype=codes.dtype)
    detections = []
    for picture_logits, picture_codes in zip(logits, codes, strict=True):
        top = picture_logits.flatten().topk(min(candidates, picture_logits.numel()))
        rows, classes = top.indices // num_classes, top.indices % num_classes
        boxes = torch.minimum(decode(picture_codes[rows], priors[rows]).clamp(min=0), limit)
        kept = nms(boxes, top.values, classes, threshold, best)
        columns = [boxes[kept][:, [1, 0, 3, 2]], top.values[kept, None].sigmoid(), classes[kept, None] + 1]
        detections.append(torch.cat(columns, 1))
    return detections
