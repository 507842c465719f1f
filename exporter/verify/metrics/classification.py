"""Labelled pictures of a classifier: a folder for each class, or a folder with labels.csv."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from PIL import Image
from torch import Tensor

from exporter.errors import DataError, UsageError
from exporter.quantize.pictures import PICTURES, pictures_below, some
from exporter.verify.metrics.classes import class_numbers
from exporter.verify.metrics.pictures import LabelledPictures
from exporter.verify.metrics.protocol import Model
from exporter.verify.metrics.topk import TopK

LIST = "labels.csv"
COLUMNS = ("file", "label")


class ClassifiedPictures(LabelledPictures):
    """A picture with one class each."""

    task = "classification"
    protocol = "Of equal scores the first class counts as the higher one."

    def __init__(self, source: Path, model: Model, limit: int | None) -> None:
        self._classes = _classes(model)
        found = _listed(source) if (source / LIST).is_file() else _in_folders(source)
        numbers = class_numbers(sorted(set(found.values())), model.labels, self._classes, str(source))
        super().__init__(source, {name: source / name for name in found}, model.preprocess, limit)
        self._truths = [numbers[found[name]] for name in self.names]
        self.labels = f"{len(set(self._truths))} of {self._classes} classes"

    def metric(self) -> TopK:
        """top-1 and top-5."""
        return TopK(len(self.names), self._classes)

    def inputs(self, number: int, image: Image.Image) -> Iterator[tuple[Tensor, int]]:
        yield self.preprocess.apply(image), self._truths[number]


def _classes(model: Model) -> int:
    """Of a model with one output [1, classes] (ones may follow)."""
    shape = model.outputs[0] if len(model.outputs) == 1 else ()
    if len(shape) < 2 or shape[1] < 2 or any(side != 1 for side in (shape[0], *shape[2:])):
        raise UsageError(
            "pictures with classes judge a classifier",
            why=f"the model gives {' and '.join(str(list(s)) for s in model.outputs)}, not one output [1, classes]",
            try_="--eval with a COCO .json for a detector or a pose model, or images/ and masks/ for a segmenter",
        )
    return shape[1]


def _in_folders(source: Path) -> dict[str, str]:
    """Name -> class of every picture in a folder's folders."""
    found = {name: name.split("/")[0] for name in pictures_below(source) if "/" in name}
    if not found:
        raise DataError(
            f"{source} says nothing about the classes of its pictures",
            why=f"they lie in the folder itself, and there is no {LIST}",
            try_=f"a folder for each class, or {LIST} with the columns {','.join(COLUMNS)}",
        )
    return found


def _listed(source: Path) -> dict[str, str]:
    """Name -> class as labels.csv has it."""
    path = source / LIST
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.DictReader(stream)
            if rows.fieldnames is None or not set(COLUMNS) <= set(rows.fieldnames):
                raise DataError(
                    f"{path} has no columns {' and '.join(COLUMNS)}",
                    why=f"its first line is {','.join(rows.fieldnames or [])!r}",
                    try_=f"{','.join(COLUMNS)} in the first line",
                )
            pairs = [(row["file"] or "", (row["label"] or "").strip()) for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}", why=str(error)) from error
    if not pairs:
        raise DataError(f"{path} lists no pictures", try_=f"a line {','.join(COLUMNS)} for each")
    _refuse(path, pairs)
    return dict(pairs)


def _refuse(path: Path, pairs: list[tuple[str, str]]) -> None:
    seen: Mapping[str, int] = {name: line for line, (name, _) in reversed(list(enumerate(pairs, 2)))}
    faults = []
    for line, (name, label) in enumerate(pairs, 2):
        fault = ""
        if not label:
            fault = "has no label"
        elif not (path.parent / name).is_file():
            fault = "does not exist"
        elif Path(name).suffix.lower() not in PICTURES:
            fault = "is no picture"
        elif seen[name] != line:
            fault = f"is listed in line {seen[name]} already"
        if fault:
            faults.append(f"line {line}  {name}  {fault}")
    if faults:
        raise DataError(
            f"{len(faults)} of {len(pairs)} lines of {path} do not fit",
            where=some(faults),
            try_="file is a path below the folder of the list, label a class",
        )
