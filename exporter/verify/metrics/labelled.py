"""`--eval`: a source of labelled pictures, opened for the model that is judged on it."""

from __future__ import annotations

from pathlib import Path

from exporter.build.postprocess import Decoded, Detector
from exporter.errors import DataError, UsageError
from exporter.verify.metrics.protocol import LabelledSet, Model

KINDS = (
    "a classifier: a folder of pictures for each class, or labels.csv (file,label) beside them",
    "a detector: a COCO .json with boxes; a pose model: one with keypoints",
    "a segmenter: images/ and masks/ with PNGs of class numbers",
)


def open_labelled(source: str | Path, model: Model, limit: int | None = None) -> LabelledSet:
    """The labelled set at `source`, at most `limit` pictures of it, evenly spread.

    Raises DataError for what is missing or does not fit together, UsageError for a model that the set cannot judge,
    RuntimeUnavailable without pycocotools where that is needed.
    """
    if len(model.inputs) != 1 or model.inputs[0] != (1, 3, *model.preprocess.size):
        raise UsageError(
            "labelled pictures judge a model that takes one picture",
            why=f"this one takes {' and '.join(str(list(shape)) for shape in model.inputs)}",
            try_="leave --eval away",
        )
    path = Path(source)
    if not path.exists():
        raise DataError(f"{path} does not exist", try_=KINDS)
    if (path / "images").is_dir() and (path / "masks").is_dir():
        from exporter.verify.metrics.segmentation import MaskedPictures

        return MaskedPictures(path, model, limit)
    if path.is_dir():
        from exporter.verify.metrics.classification import ClassifiedPictures

        return ClassifiedPictures(path, model, limit)
    if path.suffix == ".json":
        if isinstance(model.module, Detector | Decoded):
            from exporter.verify.metrics.coco import BoxedPictures

            return BoxedPictures(path, model, limit)
        from exporter.verify.metrics.pose import PosedPictures

        return PosedPictures(path, model, limit)
    raise DataError(f"{path} is not a source of labelled pictures", try_=KINDS)
