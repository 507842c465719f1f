"""calib_data/demo: the generator's own pictures, none of them twice, none of them a training picture."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from benchmarks.demo import sets
from benchmarks.demo.sample import CALIBRATION, EVALUATION
from benchmarks.demo.scenes import CLASSES, SPLITS, TASKS, scene
from exporter.quantize.data import MANIFEST, own_samples_dir

SAMPLE = own_samples_dir() / "demo"


def pictures(task, split):
    return sorted((SAMPLE / task / split).rglob("*.jpg"), key=lambda path: path.name)


@pytest.mark.parametrize("task", TASKS)
def test_calibration_and_evaluation_share_no_picture(task):
    digests = {
        split: {hashlib.sha256(path.read_bytes()).hexdigest() for path in pictures(task, split)}
        for split in ("calibration", "evaluation")
    }
    assert {split: len(found) for split, found in digests.items()} == {
        "calibration": CALIBRATION,
        "evaluation": EVALUATION,
    }
    assert not digests["calibration"] & digests["evaluation"]


def test_the_splits_that_train_have_seeds_of_their_own():
    assert len(set(SPLITS.values())) == len(SPLITS)
    assert len(set(TASKS.values())) == len(TASKS)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("split", ["calibration", "evaluation"])
def test_the_generator_makes_them_again(task, split, tmp_path):
    """To a few grey levels: a JPEG's last bits are its encoder's."""
    sets.labelled(task, split, 2, tmp_path, first=3)
    again = {path.relative_to(tmp_path): path for path in tmp_path.rglob("*.jpg")}
    assert len(again) == 2
    for name, path in again.items():
        kept, made = (np.asarray(Image.open(p), float) for p in (SAMPLE / task / split / name, path))
        assert np.abs(kept - made).mean() < 0.5


def test_the_manifest_lists_every_picture_with_its_sha256_and_licence():
    listed = {entry["file"]: entry for entry in json.loads((SAMPLE / MANIFEST).read_text())["files"]}
    there = {path.relative_to(SAMPLE).as_posix(): path for path in SAMPLE.rglob("*.jpg")}
    assert listed.keys() == there.keys()
    for name, path in there.items():
        assert listed[name]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert listed[name]["licence"] == "Apache-2.0"


def test_the_labels_are_the_scenes():
    for task, entries in (("detection", sets.things), ("pose", sets.people)):
        coco = json.loads((SAMPLE / task / "evaluation" / "coco.json").read_text())
        for number in (0, EVALUATION - 1):
            found = [{**e} for e in coco["annotations"] if e["image_id"] == number]
            for entry in found:
                del entry["id"], entry["image_id"]
            assert found == entries(scene(task, "evaluation", number))
    for path in pictures("classification", "evaluation"):
        assert path.parent.name == CLASSES[scene("classification", "evaluation", int(path.stem)).truth]


def test_it_is_small():
    assert sum(path.stat().st_size for path in SAMPLE.rglob("*") if path.is_file()) < 3_000_000
