"""Scenes as files: labelled sets as `--eval` takes them, folders of pictures as `--calib` does."""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.demo import puppets
from benchmarks.demo.scenes import CLASSES, THINGS, Scene, Split, Task, scene
from exporter.build.pose import cut, region
from exporter.recipe import recipes_dir

POSE_SIZE = (128, 96)
"""Height and width of a figure cut out for calibration."""
QUALITY = 88
"""Of the JPEGs, whose colours are not subsampled."""


def labelled(
    task: Task, split: Split, count: int, folder: Path | str, size: tuple[int, int] | None = None, first: int = 0
) -> Path:
    """Write pictures `first` to `first + count - 1` of a split into `folder` -> what `--eval` or `--calib` takes.

    classification: `folder` with a folder of pictures for each class. detection, pose: `folder/coco.json` with the
    pictures in `folder/images`. The split "calibration" has no labels: a folder of pictures as the network sees them,
    for pose one figure each, cut out by its box. `size` is a picture's height and width where it is not the task's own.
    The same arguments write the same pictures; splits share none.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if split == "calibration":
        return _unlabelled(task, _scenes(task, split, size, range(first, first + count)), folder, first)
    if task == "classification":
        return _folders(_scenes(task, split, size, range(first, first + count)), folder, first)
    return _coco(task, _scenes(task, split, size, range(first, first + count)), folder, first)


def _scenes(task: Task, split: Split, size: tuple[int, int] | None, numbers: range) -> Iterable[Scene]:
    with ProcessPoolExecutor() as pool:
        yield from pool.map(partial(_scene, task, split, size), numbers, chunksize=16)


def _scene(task: Task, split: Split, size: tuple[int, int] | None, number: int) -> Scene:
    return scene(task, split, number, size)


def save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=QUALITY, subsampling=0)


def _unlabelled(task: Task, scenes: Iterable[Scene], folder: Path, first: int) -> Path:
    for number, made in enumerate(scenes, first):
        image = Image.fromarray(made.pixels)
        if task == "pose":
            box, _ = made.truth[0]
            image = cut(image, region(box, POSE_SIZE), POSE_SIZE)
        save(image, folder / f"{number:05}.jpg")
    return folder


def _folders(scenes: Iterable[Scene], folder: Path, first: int) -> Path:
    for number, made in enumerate(scenes, first):
        save(Image.fromarray(made.pixels), folder / CLASSES[made.truth] / f"{number:05}.jpg")
    return folder


def _coco(task: Task, scenes: Iterable[Scene], folder: Path, first: int) -> Path:
    images, annotations = [], []
    for number, made in enumerate(scenes, first):
        name = f"{number:05}.jpg"
        save(Image.fromarray(made.pixels), folder / "images" / name)
        height, width = made.pixels.shape[:2]
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        entries = things(made) if task == "detection" else people(made)
        annotations += [{"id": len(annotations) + i, "image_id": number, **e} for i, e in enumerate(entries, 1)]
    path = folder / "coco.json"
    content = {"images": images, "annotations": annotations, "categories": categories(task)}
    path.write_text(json.dumps(content, indent=None, separators=(",", ":")) + "\n")
    return path


def categories(task: Task) -> list[dict[str, Any]]:
    """COCO's categories: the things, or one person with COCO's 17 joints."""
    if task == "detection":
        return [{"id": number, "name": name} for number, name in enumerate(THINGS, 1)]
    joints = (recipes_dir() / "labels" / "coco_keypoints.txt").read_text().splitlines()
    return [{"id": 1, "name": "person", "keypoints": joints, "skeleton": puppets.SKELETON}]


def things(made: Scene) -> list[dict[str, Any]]:
    """COCO's annotations of a detection scene, without ids."""
    return [
        {"category_id": number + 1, "bbox": rounded(box), "area": round(box[2] * box[3], 1), "iscrowd": 0}
        for box, number in made.truth
    ]


def people(made: Scene) -> list[dict[str, Any]]:
    """COCO's annotations of a pose scene, without ids.

    There is no outline to take the area from: 0.53 of the box, as mmpose has it for such sets (`CocoMetric`,
    use_area=False).
    """
    return [
        {
            "category_id": 1,
            "bbox": rounded(box),
            "area": round(box[2] * box[3] * 0.53, 1),
            "iscrowd": 0,
            "keypoints": rounded(joints.reshape(-1)),
            "num_keypoints": int((joints[:, 2] > 0).sum()),
        }
        for box, joints in made.truth
    ]


def rounded(values: Iterable[float]) -> list[float]:
    return [round(float(value), 1) for value in np.asarray(values)]
