"""COCO keypoints as labels of a top-down pose model: every annotated person is one input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from exporter.build.pose import PADDING, cut, region
from exporter.errors import DataError, UsageError
from exporter.recipe import recipes_dir
from exporter.verify.metrics.classes import plain
from exporter.verify.metrics.coco import CocoPictures, Entry
from exporter.verify.metrics.joints import PCK, JointPrecision, Person
from exporter.verify.metrics.protocol import Model


class PosedPictures(CocoPictures):
    """Pictures with people (or whatever the one category with keypoints is), each in a box."""

    task = "keypoints"

    def __init__(self, source: Path, model: Model, limit: int | None) -> None:
        self._count = _joints(model)
        super().__init__(source, model.preprocess, limit)
        category = self._category(model)
        self._id, names = category["id"], category["keypoints"]
        self._order = _order(names, model.labels, str(source))
        self._sigmas = _sigmas(category, names)
        everyone = ([e for e in entries if e["category_id"] == self._id] for entries in self.annotations)
        self.annotations = [[_counted(entry) for entry in entries] for entries in everyone]
        people = [sum(map(_is_judged, entries)) for entries in self.annotations]
        if not any(people):
            raise DataError(f"no {category['name']} in {source} has a labelled keypoint and a box")
        self.labels = f"{sum(people):,} of category {category['name']}, {self._count} joints each"
        self.protocol = _protocol(self._sigmas is not None)

    def metric(self) -> JointPrecision:
        """AP, AP50, AP75 over OKS, PCK."""
        return JointPrecision(len(self.names), self._id, self._order, self._sigmas)

    def inputs(self, number: int, image: Image.Image) -> Iterator[tuple[Tensor, Person]]:
        everyone = self.annotations[number]
        for entry in filter(_is_judged, everyone):
            where = region(entry["bbox"], self.preprocess.size)
            yield self.preprocess.apply(cut(image, where, self.preprocess.size)), Person(where, entry, everyone)

    def faults(self, annotation: Entry) -> str:
        """Keypoints that are not x, y, v for each joint of the category."""
        joints = self.categories[annotation["category_id"]].get("keypoints")
        if not joints:
            return ""
        given = annotation.get("keypoints")
        if not isinstance(given, list) or len(given) != 3 * len(joints):
            return f"has no x, y, v for each of {len(joints)} keypoints"
        finite = all(isinstance(value, int | float) and np.isfinite(value) for value in given)
        return "" if finite else "has keypoints that are no numbers"

    def _category(self, model: Model) -> Entry:
        """The one with keypoints, as many as the model has."""
        found = [entry for entry in self.categories.values() if entry.get("keypoints")]
        if len(found) != 1:
            raise DataError(
                f"{self.source} has {len(found)} categories with keypoints, not one",
                why="COCO names them in `keypoints` of the category",
                try_="a person_keypoints_*.json; for boxes alone give a detector",
            )
        if len(found[0]["keypoints"]) != self._count:
            raise DataError(
                f"{self.source} has {len(found[0]['keypoints'])} keypoints, and the model {self._count}",
                try_="annotations of the joints that the model was trained for",
            )
        if model.labels and len(model.labels) != self._count:
            raise UsageError(
                f"the recipe has {len(model.labels)} labels, and the model {self._count} joints",
                try_="labels: FILE with one joint a line, in the order of the model's heatmaps",
            )
        return found[0]


def _protocol(has_precision: bool) -> str:
    told = (
        f"Each is cut out by its annotated box, {PADDING:g} times as large; nothing is flipped. PCK: joints within "
        f"{PCK:g} of the box's longer side."
    )
    if has_precision:
        return f"AP by pycocotools: OKS 0.50 to 0.95, all sizes. {told}"
    return f"{told} No AP: the category has no `sigmas`, and its joints are not COCO's 17."


def _joints(model: Model) -> int:
    """Of a model with one output [1, joints, height, width]."""
    shape = model.outputs[0] if len(model.outputs) == 1 else ()
    if len(shape) != 4 or shape[0] != 1 or min(shape[2:]) < 2:
        raise UsageError(
            "a COCO .json judges a detector or a pose model",
            why=f"the model gives {' and '.join(str(list(s)) for s in model.outputs)}, no heatmaps "
            "[1, joints, height, width], and says nothing about anchors",
            try_="your own detector: docs/adding-a-model.md says what it must offer",
        )
    return shape[1]


def _order(names: Sequence[str], labels: Sequence[str], source: str) -> list[int]:
    """The model's joint for each annotated one."""
    if not labels:
        return list(range(len(names)))
    known = {plain(label): number for number, label in enumerate(labels)}
    if unknown := [name for name in names if plain(name) not in known]:
        raise DataError(
            f"{len(unknown)} of {len(names)} keypoints of {source} are not the model's",
            where=unknown,
            why=f"its labels are {', '.join(labels)}",
        )
    return [known[plain(name)] for name in names]


def _sigmas(category: Entry, names: Sequence[str]) -> Sequence[float] | None:
    """How exactly each joint can be annotated: the category's own, those of COCO's 17 joints (empty: pycocotools has
    them), else None.
    """
    given = category.get("sigmas")
    if isinstance(given, list) and len(given) == len(names) and all(isinstance(s, float) and s > 0 for s in given):
        return given
    coco = (recipes_dir() / "labels" / "coco_keypoints.txt").read_text().splitlines()
    return () if [plain(name) for name in names] == [plain(name) for name in coco] else None


def _counted(entry: Entry) -> Entry:
    return {**entry, "num_keypoints": sum(v > 0 for v in islice(entry["keypoints"], 2, None, 3))}


def _is_judged(entry: Entry) -> bool:
    """Whether it has a box and a labelled joint, and is no crowd."""
    return bool(entry["num_keypoints"] and not entry["iscrowd"] and min(entry["bbox"][2:]) > 0)
