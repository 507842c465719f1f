"""Box decoding and non-maximum suppression: the one meaning of the op `detection_postprocess`, in torch.

Boxes are y0, x0, y1, x1. Source of every rule: LiteRT tflite/kernels/detection_postprocess.cc, which is the operator of
the TFLite files; other formats spell the same rules with their own operators.
"""

from __future__ import annotations

import torch
from torch import Tensor


def centre_and_half(codes: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """Centre (y, x) and half sides (height, width), each [..., A, 2]; see `decode`."""
    centre = codes[..., :2] * anchors[..., 2:] + anchors[..., :2]
    half = codes[..., 2:4].exp() * (anchors[..., 2:] * 0.5)
    return centre, half


def decode(codes: Tensor, anchors: Tensor) -> Tensor:
    """Box codes (ty, tx, th, tw) [..., A, 4] against anchors (centre y, centre x, height, width) [A, 4] -> boxes
    [..., A, 4]: centre = t · side + anchor's centre, side = exp(t) · anchor's side. Units are the anchors'.
    """
    centre, half = centre_and_half(codes, anchors)
    return torch.cat([centre - half, centre + half], -1)


def intersection_over_union(box: Tensor, boxes: Tensor) -> Tensor:
    """IoU of one box [4] with boxes [N, 4] -> [N]; 0 where either has no area."""
    overlap = (torch.minimum(box[2:], boxes[:, 2:]) - torch.maximum(box[:2], boxes[:, :2])).clamp(min=0)
    intersection = overlap[:, 0] * overlap[:, 1]
    area, areas = (box[2:] - box[:2]).prod(), (boxes[:, 2:] - boxes[:, :2]).prod(1)
    found = intersection / (area + areas - intersection)
    return torch.where((areas > 0) & (area > 0), found, torch.zeros_like(found))


def nms(boxes: Tensor, scores: Tensor, classes: Tensor, threshold: float = 0.5, best: int = 100) -> Tensor:
    """Greedy hard NMS within each class.

    boxes [N, 4], scores [N], classes [N] -> indices of at most `best` survivors, best score first, the earlier one of
    equal scores first. A box falls when its IoU with a better survivor of its class exceeds `threshold`.
    """
    order = scores.argsort(descending=True, stable=True)
    kept: list[Tensor] = []
    while order.numel() and len(kept) < best:
        top, order = order[0], order[1:]
        kept.append(top)
        falls = (intersection_over_union(boxes[top], boxes[order]) > threshold) & (classes[order] == classes[top])
        order = order[~falls]
    return torch.stack(kept) if kept else order


Detections = tuple[Tensor, Tensor, Tensor, Tensor]
"""boxes [N, M, 4], class ids [N, M], scores [N, M] and the number of detections [N], all float32.

Rows are sorted by score; those beyond the number are 0 here and undefined in a TFLite file.
"""


def detect(
    codes: Tensor,
    scores: Tensor,
    anchors: Tensor,
    score_threshold: float,
    iou_threshold: float,
    max_detections: int,
    per_class: bool,
) -> Detections:
    """Box codes [N, A, 4], scores [N, A, C], anchors [A, 4] (see `decode`) -> the detections of every picture.

    A candidate has a score of at least `score_threshold`. With `per_class` every (anchor, class) pair is one, and NMS
    runs within each class; otherwise each anchor stands for its best class alone, and NMS runs across classes. Boxes
    are decoded in float64, as the kernel does, and not clipped.
    """
    count = codes.shape[0]
    boxes, classes, best, number = (
        codes.new_zeros(shape)
        for shape in ((count, max_detections, 4), (count, max_detections), (count, max_detections), (count,))
    )
    if not codes.is_meta:
        for i in range(count):
            centre, half = (part.float() for part in centre_and_half(codes[i].double(), anchors.double()))
            corners = torch.cat([centre - half, centre + half], -1)
            rows, ids, values = _candidates(scores[i], score_threshold, per_class)
            groups = ids if per_class else torch.zeros_like(ids)
            kept = nms(corners[rows], values, groups, iou_threshold, max_detections)
            found = len(kept)
            boxes[i, :found], classes[i, :found] = corners[rows[kept]], ids[kept].float()
            best[i, :found], number[i] = values[kept], found
    return boxes, classes, best, number


def _candidates(scores: Tensor, threshold: float, per_class: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Anchor, class and score of every candidate in scores [A, C]: class by class, anchors in order within each."""
    if per_class:
        ids, rows = (scores.t() >= threshold).nonzero(as_tuple=True)
        return rows, ids, scores[rows, ids]
    values, ids = scores.max(-1)
    (rows,) = (values >= threshold).nonzero(as_tuple=True)
    return rows, ids[rows], values[rows]
