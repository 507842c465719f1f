"""COCO .json files as labels: images, categories and annotations, checked before anything is computed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from exporter.errors import DataError
from exporter.quantize.pictures import coco_files, read_coco, some
from exporter.quantize.preprocess import Preprocess, View
from exporter.verify.metrics.boxes import BoxPrecision, Reader, reader
from exporter.verify.metrics.classes import class_numbers
from exporter.verify.metrics.pictures import LabelledPictures, upright_size
from exporter.verify.metrics.precision import Entries, load_pycocotools
from exporter.verify.metrics.protocol import Model

Entry = dict[str, Any]


class CocoPictures(LabelledPictures):
    """The pictures of a COCO json. `categories` are its entries by id, `annotations` those of each picture."""

    def __init__(self, source: Path, preprocess: Preprocess, limit: int | None) -> None:
        load_pycocotools()
        coco = read_coco(source)
        self.categories = _categories(source, coco)
        super().__init__(source, coco_files(source, coco), preprocess, limit)
        by_image = _annotations(source, coco, self.categories, self.faults)
        entries = {entry["file_name"]: entry for entry in coco["images"]}
        self._refuse_sizes(entries)
        self.annotations = [by_image.get(entries[name].get("id"), []) for name in self.names]

    def faults(self, annotation: Entry) -> str:
        """What is wrong with an annotation beyond its box; empty where nothing is."""
        return ""

    def _refuse_sizes(self, entries: Mapping[str, Entry]) -> None:
        wrong = []
        for name, path in zip(self.names, self.files, strict=True):
            told, has = (entries[name].get("width"), entries[name].get("height")), upright_size(path)
            if None not in told and told != has:
                wrong.append(f"{name}  is {has[0]} x {has[1]}, annotated as {told[0]} x {told[1]}")
        if wrong:
            raise DataError(
                f"{len(wrong)} of {len(self.names)} pictures have another size than {self.source} says",
                where=some(wrong),
                why="its annotations are in pixels of that size",
                try_="the pictures that were annotated, not resized ones",
            )


class BoxedPictures(CocoPictures):
    """Pictures with the boxes of objects."""

    task = "detection"
    protocol = (
        "AP by pycocotools: IoU 0.50 to 0.95, all sizes, 100 detections. Boxes are judged in the picture's own pixels."
    )

    def __init__(self, source: Path, model: Model, limit: int | None) -> None:
        self._read_outputs: Reader
        self._read_outputs, classes = reader(model.module, model.preprocess.size)
        super().__init__(source, model.preprocess, limit)
        names = {entry["name"]: number for number, entry in sorted(self.categories.items())}
        numbers = class_numbers(list(names), model.labels, classes, str(source))
        self._ids = {numbers[name]: category for name, category in names.items()}
        count = sum(len(entries) for entries in self.annotations)
        self.labels = f"{count:,} boxes of {len(self._ids)} classes"

    def metric(self) -> BoxPrecision:
        """AP, AP50, AP75."""
        return BoxPrecision(len(self.names), self._read_outputs, self.preprocess.size, self._ids)

    def inputs(self, number: int, image: Image.Image) -> Iterator[tuple[Tensor, tuple[View, Entries]]]:
        yield self.preprocess.apply(image), (self.preprocess.view(*image.size), self.annotations[number])


def _categories(source: Path, coco: Mapping[str, Any]) -> dict[int, Entry]:
    """The entries by id."""
    found = coco.get("categories")
    if not (isinstance(found, list) and found and all(map(_is_category, found))):
        raise DataError(
            f"{source} has no categories",
            why="COCO has a list `categories` whose entries carry a number `id` and a `name`",
            try_="an instances_*.json or person_keypoints_*.json",
        )
    for key in ("id", "name"):
        if twice := [str(value) for value, n in Counter(entry[key] for entry in found).items() if n > 1]:
            raise DataError(f"several categories of {source} have one {key}", where=some(twice))
    return {entry["id"]: entry for entry in found}


def _is_category(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("id"), int) and isinstance(entry.get("name"), str)


def _image_ids(source: Path, coco: Mapping[str, Any]) -> set[Any]:
    ids = [entry.get("id") for entry in coco["images"]]
    if not all(isinstance(number, int | str) for number in ids) or len(set(ids)) < len(ids):
        raise DataError(f"images of {source} have no id, or one that is another's", why="annotations name them by it")
    return set(ids)


def _annotations(
    source: Path, coco: Mapping[str, Any], categories: Mapping[int, Entry], more: Any
) -> dict[Any, list[Entry]]:
    """By image id, as pycocotools wants them. DataError names every one that does not fit."""
    given = coco.get("annotations")
    if not isinstance(given, list) or not given:
        raise DataError(
            f"{source} has no annotations",
            why="pictures without labels can be calibrated on, but not judged",
            try_="an instances_*.json or person_keypoints_*.json, not image_info_*.json",
        )
    images = _image_ids(source, coco)
    found: dict[Any, list[Entry]] = {}
    wrong = []
    for number, entry in enumerate(given):
        fault = _fault(entry, images, categories) or more(entry)
        if fault:
            wrong.append(f"annotations[{number}]  {fault}")
            continue
        box = [float(side) for side in entry["bbox"]]
        area = float(entry.get("area") or box[2] * box[3])
        sound = {**entry, "bbox": box, "area": area, "iscrowd": int(bool(entry.get("iscrowd")))}
        found.setdefault(entry["image_id"], []).append(sound)
    if wrong:
        raise DataError(f"{len(wrong)} of {len(given)} annotations of {source} do not fit", where=some(wrong))
    return found


def _fault(entry: Any, images: set[Any], categories: Mapping[int, Entry]) -> str:
    if not isinstance(entry, dict):
        return "is no mapping"
    ids = [entry.get(key) for key in ("image_id", "category_id")]
    if not all(isinstance(number, int | str) for number in ids):
        return "has no image_id or no category_id"
    if entry.get("image_id") not in images:
        return f"is of image {entry.get('image_id')!r}, which `images` does not list"
    if entry.get("category_id") not in categories:
        return f"is of category {entry.get('category_id')!r}, which `categories` does not list"
    return "" if _is_box(entry.get("bbox")) else f"has no box x, y, width, height: {entry.get('bbox')!r}"


def _is_box(box: Any) -> bool:
    if not (isinstance(box, list) and len(box) == 4 and all(isinstance(side, int | float) for side in box)):
        return False
    return all(math.isfinite(side) for side in box) and min(box[2:]) >= 0
