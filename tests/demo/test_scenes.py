"""The generator of demo scenes: repeatable pictures, truths that lie in them, sets that the exporter reads."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.demo import labelled
from benchmarks.demo.scenes import CLASSES, SPLITS, TASKS, THINGS, Scene, scene
from benchmarks.demo.things import SHAPES
from exporter.build import build_model
from exporter.quantize.data import load_samples
from exporter.quantize.preprocess import Preprocess
from exporter.verify.metrics.labelled import open_labelled
from exporter.verify.metrics.protocol import Model


def digest(made: Scene) -> str:
    return hashlib.sha256(made.pixels.tobytes()).hexdigest()


@pytest.mark.parametrize("task", TASKS)
def test_same_number_same_picture(task):
    first, again = scene(task, "train", 3), scene(task, "train", 3)
    assert digest(first) == digest(again)
    assert repr(first.truth) == repr(again.truth)


@pytest.mark.parametrize("task", TASKS)
def test_splits_share_no_picture(task):
    found = [digest(scene(task, split, number)) for split in SPLITS for number in range(20)]
    assert len(set(found)) == len(SPLITS) * 20


def test_boxes_hold_their_things():
    for number in range(30):
        made = scene("detection", "train", number)
        height, width = made.pixels.shape[:2]
        assert made.truth
        for (x, y, w, h), kind in made.truth:
            assert 0 <= x < x + w <= width
            assert 0 <= y < y + h <= height
            assert min(w, h) >= 5
            assert 0 <= kind < len(THINGS)


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_fill_a_part_of_their_circle(name):
    """Inside is positive, nothing reaches beyond the radius, and the edge falls by about one per unit outwards."""
    y, x = np.mgrid[-1.5:1.5:151j, -1.5:1.5:151j].astype(np.float32)
    depth = SHAPES[name](x, y)
    inside = depth > 0
    assert 0.1 < inside.mean() * 9 / np.pi < 1.01
    assert not inside[np.hypot(x, y) > 1.03].any()


def test_all_classes_come_up():
    seen = {scene("classification", "train", number).truth for number in range(200)}
    assert seen == set(range(len(CLASSES)))


def test_a_figures_left_is_right_in_the_picture():
    """On average: that is how left and right are told apart."""
    wider = []
    for number in range(20):
        for _, joints in scene("pose", "train", number).truth:
            assert joints.shape == (17, 3)
            wider += [joints[5, 0] - joints[6, 0], joints[11, 0] - joints[12, 0], joints[1, 0] - joints[2, 0]]
    assert np.mean(np.array(wider) > 0) > 0.95


def test_some_pictures_are_dark_and_some_saturated():
    means = np.array([scene("classification", "train", number).pixels.mean() for number in range(60)])
    full = np.array([(scene("classification", "train", number).pixels == 255).mean() for number in range(60)])
    assert (means < 40).any()
    assert (full > 0.4).any()


def judged(name: str, size: tuple[int, int], classes: int, labels: tuple[str, ...]) -> Model:
    module = build_model(name, size, classes)
    with torch.no_grad():
        outputs = module(torch.zeros(1, 3, *size))
    shapes = [tuple(x.shape) for x in torch.utils._pytree.tree_leaves(outputs)]
    resize = "letterbox" if name.startswith("efficientdet") else "crop"
    return Model(Preprocess(size=size, resize=resize), [(1, 3, *size)], shapes, labels, module)


@pytest.mark.parametrize(
    ("task", "name", "size", "labels"),
    [
        ("classification", "fasternet_t0", (96, 96), CLASSES),
        ("detection", "efficientdet_d0", (128, 128), THINGS),
        ("pose", "litehrnet_18", (64, 64), ()),
    ],
    ids=["classification", "detection", "pose"],
)
def test_sets_are_what_eval_takes(tmp_path, task, name, size, labels):
    source = labelled(task, "evaluation", 12, tmp_path)
    classes = len(labels) or 17
    opened = open_labelled(source, judged(name, size, classes, labels))
    assert len(opened.names) == 12


def test_boxes_of_the_json_are_the_scenes(tmp_path):
    coco = json.loads(labelled("detection", "evaluation", 3, tmp_path, first=5).read_text())
    assert [image["id"] for image in coco["images"]] == [5, 6, 7]
    for image in coco["images"]:
        truth = scene("detection", "evaluation", image["id"]).truth
        found = [entry for entry in coco["annotations"] if entry["image_id"] == image["id"]]
        assert [(tuple(e["bbox"]), e["category_id"] - 1) for e in found] == truth
        saved = np.asarray(Image.open(tmp_path / "images" / image["file_name"]), float)
        drawn = scene("detection", "evaluation", image["id"]).pixels.astype(float)
        assert np.abs(saved - drawn).mean() < 4


def test_calibration_sets_have_no_labels(tmp_path):
    for task in TASKS:
        source = labelled(task, "calibration", 3, tmp_path / task)
        assert sorted(p.name for p in Path(source).iterdir()) == ["00000.jpg", "00001.jpg", "00002.jpg"]
        size = Image.open(source / "00000.jpg").size[::-1]
        (x,) = next(load_samples(source, Preprocess(size=size), 1).feeds())
        assert x.shape == (1, 3, *size)
