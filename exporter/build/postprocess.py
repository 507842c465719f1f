"""What stands behind a detector's heads: decoded boxes and scores, or finished detections (NMS).

A detector is any module with the three members of `Detector`. `Decoded` and `Detections` wrap it; everything behind its
own forward is the float tail of the exported file (integer body, float tail).

Boxes are y0, x0, y1, x1 as parts of the network's input (0..1, not clipped), in every format: what the mobile detector
APIs expect, and independent of the input size.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from exporter.errors import UsageError
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

    described: ClassVar = {
        "boxes": "y0, x0, y1, x1 of every anchor's box, as parts of the network's input, not clipped",
        "scores": "score of every anchor and class, 0 to 1",
    }
    """What the outputs mean, by name, in order."""
    priors: Tensor

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        assert isinstance(detector, Detector)
        self.detector = detector
        self.register_buffer("priors", detector.priors(), persistent=False)

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(self.described)

    def predictions(self, heads: Any) -> tuple[Tensor, Tensor]:
        """Box codes and scores from the detector's outputs, behind the border of the float tail."""
        codes, scores = self.detector.predictions(tree_map(torch.ops.edge_export.float_tail, heads))
        anchors, classes = len(self.priors), self.detector.num_classes
        given = [tuple(t.shape[1:]) for t in (codes, scores)]
        if self.priors.shape != (anchors, 4) or given != [(anchors, 4), (anchors, classes)]:
            raise UsageError(
                f"the post-processing of {type(self.detector).__name__} does not fit together",
                where=[
                    f"priors()  {list(self.priors.shape)}, must be [A, 4]",
                    f"predictions()  codes {list(codes.shape)}, must be [N, {anchors}, 4]",
                    f"predictions()  scores {list(scores.shape)}, must be [N, {anchors}, {classes}]",
                ],
                try_="docs/adding-a-model.md, Detectors",
            )
        return codes, scores

    def finish(self, heads: Any) -> tuple[Tensor, ...]:
        """The tail: from what the detector returned to the outputs."""
        codes, scores = self.predictions(heads)
        return decode(codes, self.priors), scores

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self.finish(self.detector(*inputs))


class Detections(Decoded):
    """A detector with NMS: boxes [N, M, 4], class ids [N, M] from 0, scores [N, M], number of detections [N].

    Rows are sorted by score; those beyond the number mean nothing. The parameters are those of
    `exporter.ir.detection.detect`, with M = max_detections.
    """

    described: ClassVar = {
        "boxes": "y0, x0, y1, x1 of every detection, as parts of the network's input, not clipped",
        "classes": "class of every detection, counted from 0",
        "scores": "score of every detection, best first",
        "count": "number of detections: rows beyond it mean nothing",
    }

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

    def finish(self, heads: Any) -> tuple[Tensor, ...]:
        return torch.ops.edge_export.detection_postprocess(*self.predictions(heads), self.priors, *self.settings)


WRAPPERS: dict[str, type[Decoded]] = {"decoded": Decoded, "nms": Detections}


def require_detector(module: nn.Module, postprocess: str) -> None:
    """UsageError for a module that cannot have this post-processing."""
    if postprocess in WRAPPERS and not isinstance(module, Detector):
        missing = [name for name in ("num_classes", "priors", "predictions") if not hasattr(module, name)]
        raise UsageError(
            f"postprocess: {postprocess} is for detectors",
            why=f"{type(module).__name__} has no {' and no '.join(missing)}",
            try_=["--postprocess raw", "your own detector: docs/adding-a-model.md says what it must offer"],
        )


def with_postprocess(module: nn.Module, postprocess: str, **settings: Any) -> nn.Module:
    """The module with `raw`, `decoded` or `nms` outputs, in eval mode; `settings` are those of `Detections`."""
    return WRAPPERS[postprocess](module, **settings).eval() if postprocess in WRAPPERS else module
