"""What stands behind a detector's heads: decoded boxes and scores, or finished detections (NMS).

A detector is any module with the three members of `Detector`. `Decoded` and `Detections` wrap it; everything behind its
own forward is the float tail of the exported file (integer body, float tail).

Boxes are y0, x0, y1, x1 as parts of the network's input (0..1, not clipped), in every format: what the mobile detector
APIs expect, and independent of the input size.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from exporter.ir.detection import decode, detect


@runtime_checkable
class Detector(Protocol):
    """What a module must offer, beside forward, to be exported with its post-processing."""

    num_classes: int

    def priors(self) -> Tensor:
        """Anchors [A, 4] fp32: centre y, centre x, height, width, as parts of the network's input."""
        ...

    def predictions(self, heads: Any) -> tuple[Tensor, Tensor]:
        """What forward returned -> box codes [N, A, 4] and scores [N, A, num_classes] in 0..1, in ops that export.

        Codes are ty, tx, th, tw against the priors: centre = t · side + prior's centre, side = exp(t) · prior's side.
        """
        ...


@torch.library.custom_op("edge_export::float_tail", mutates_args=())
def float_tail(x: Tensor) -> Tensor:
    """The identity. In an int8 file everything behind it stays float: the border of a tail that codes would destroy."""
    return x.clone()


@float_tail.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("edge_export::detection_postprocess", mutates_args=())
def detection_postprocess(
    codes: Tensor,
    scores: Tensor,
    anchors: Tensor,
    score_threshold: float,
    iou_threshold: float,
    max_detections: int,
    per_class: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`exporter.ir.detection.detect`, as one op of the exported program."""
    return detect(codes, scores, anchors, score_threshold, iou_threshold, max_detections, per_class)


@detection_postprocess.register_fake
def _(codes: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return detect(codes.to("meta"), *arguments)


class Decoded(nn.Module):
    """A detector with decoded outputs: boxes [N, A, 4] (see the module's docstring), scores [N, A, classes]."""

    output_names: tuple[str, ...] = ("boxes", "scores")
    priors: Tensor

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        assert isinstance(detector, Detector)
        self.detector = detector
        self.register_buffer("priors", detector.priors(), persistent=False)

    def predictions(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Box codes and scores, behind the border of the float tail."""
        heads = tree_map(torch.ops.edge_export.float_tail, self.detector(*inputs))
        codes, scores = self.detector.predictions(heads)
        return codes, scores

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        codes, scores = self.predictions(*inputs)
        return decode(codes, self.priors), scores


class Detections(Decoded):
    """A detector with NMS: boxes [N, M, 4], class ids [N, M] from 0, scores [N, M], number of detections [N].

    Rows are sorted by score; those beyond the number mean nothing. The parameters are those of
    `exporter.ir.detection.detect`, with M = max_detections.
    """

    output_names = ("boxes", "classes", "scores", "count")

    def __init__(
        self,
        detector: nn.Module,
        score_threshold: float = 0.05,
        iou_threshold: float = 0.5,
        max_detections: int = 100,
        per_class: bool = False,
    ) -> None:
        super().__init__(detector)
        self.settings = (score_threshold, iou_threshold, max_detections, per_class)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return torch.ops.edge_export.detection_postprocess(*self.predictions(*inputs), self.priors, *self.settings)
