"""Calibration data, plans and bundles that cannot be used: exit 3, every offender named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command import edge_export
from PIL import Image
from refusals import names, refused

from exporter.quantize.data import default_samples_dir

PHOTO = (default_samples_dir() / "cat.jpg").read_bytes()


def pictures(folder: Path) -> None:
    folder.mkdir()
    for name in ("a.jpg", "b.jpg"):
        (folder / name).write_bytes(PHOTO)


def corrupt(folder: Path) -> None:
    pictures(folder)
    (folder / "half.jpg").write_bytes(PHOTO[: len(PHOTO) // 2])
    (folder / "text.png").write_text("not a picture")
    (folder / "empty.png").touch()


def cut_short(folder: Path) -> None:
    """The header is fine, so only decoding finds it."""
    pictures(folder)
    (folder / "half.jpg").write_bytes(PHOTO[: len(PHOTO) // 2])


def float_pixels(folder: Path) -> None:
    pictures(folder)
    Image.fromarray(np.zeros((8, 8), np.float32)).save(folder / "f.tiff")


def saved(array: np.ndarray):
    return lambda path: np.savez(path, x=array)


def with_a_nan(path: Path) -> None:
    samples = np.zeros((4, 3, 64, 64), np.float32)
    samples[2, 1, 5, 5] = np.nan
    np.savez(path, x=samples)


SOURCES = {
    "missing": ("photos", lambda path: None, ["photos does not exist"]),
    "empty-folder": ("photos", Path.mkdir, ["no pictures in photos", "the folder is empty"]),
    "folder-of-texts": (
        "photos",
        lambda path: (path.mkdir(), (path / "a.txt").touch()),
        ["no pictures in photos", "1 .txt"],
    ),
    "corrupt": (
        "photos",
        corrupt,
        ["2 of 5 pictures in photos cannot be read", "text.png  is not", "empty.png  is"],
    ),
    "cut-short": ("photos", cut_short, ["1 of ", "pictures in photos cannot be read", "half.jpg"]),
    "float-pixels": ("photos", float_pixels, ["f.tiff", "32-bit float pixels"]),
    "a-picture": ("cat.jpg", lambda path: path.write_bytes(PHOTO), ["cat.jpg is not a source of samples", "folder"]),
    "wrong-size": ("s.npz", saved(np.zeros((4, 3, 32, 32), np.float32)), ["has shape [4, 3, 32, 32]", "64, 64"]),
    "nhwc": ("s.npz", saved(np.zeros((4, 64, 64, 3), np.float32)), ["has shape [4, 64, 64, 3]", "takes NCHW"]),
    "one-sample": ("s.npz", saved(np.zeros((3, 64, 64), np.float32)), ["has shape [3, 64, 64]", "save array[None]"]),
    "no-samples": ("s.npz", saved(np.zeros((0, 3, 64, 64), np.float32)), ["has shape [0, 3, 64, 64]"]),
    "uint8": ("s.npz", saved(np.zeros((4, 3, 64, 64), np.uint8)), ["is uint8, not float32"]),
    "nan": ("s.npz", with_a_nan, ["sample 2 of s.npz", "NaN or infinity"]),
    "objects": ("s.npz", saved(np.array([{"a": 1}])), ["holds pickled Python objects"]),
    "not-an-archive": ("s.npz", lambda path: path.write_text("hello"), ["s.npz is not an .npz archive"]),
    "not-json": ("coco.json", lambda path: path.write_text("{"), ["coco.json is not JSON"]),
    "not-coco": ("coco.json", lambda path: path.write_text("{}"), ["coco.json is not a COCO file"]),
    "coco-without-pictures": (
        "coco.json",
        lambda path: path.write_text(json.dumps({"images": [{"id": 1, "file_name": "gone.jpg"}]})),
        ["1 of 1 pictures of coco.json are missing", "gone.jpg"],
    ),
}


@pytest.mark.parametrize(("name", "make", "said"), SOURCES.values(), ids=SOURCES)
def test_calibration(desk, name, make, said):
    make(desk / name)
    before = names(desk)
    done = edge_export("net:make", "--int8", "--size", 64, "--calib", name, cwd=desk)
    refused(done, 3, *said)
    assert names(desk) == before


def edited(shelf: Path, change) -> str:
    plan = json.loads((shelf / "int8" / "plan.json").read_text())
    change(plan)
    return json.dumps(plan)


def off_the_grid(plan) -> None:
    next(iter(plan["values"].values()))["scale"] = 0.1


def one_value_less(plan) -> None:
    del plan["values"][next(iter(plan["values"]))]


PLANS = {
    "missing": (None, ["cannot read the plan p.json"]),
    "not-json": (lambda shelf: "{", ["p.json is not a plan"]),
    "a-list": (lambda shelf: "[]", ["p.json is not a plan"]),
    "another-format": (lambda shelf: edited(shelf, lambda plan: plan.update(format=9)), ["plan of format 9"]),
    "scale-off-the-grid": (lambda shelf: edited(shelf, off_the_grid), ["is not a float16 value"]),
    "incomplete": (lambda shelf: edited(shelf, one_value_less), ["plan"]),
}


@pytest.mark.parametrize(("text", "said"), PLANS.values(), ids=PLANS)
def test_plans(desk, shelf, text, said):
    if text:
        (desk / "p.json").write_text(text(shelf))
    before = names(desk)
    refused(edge_export("net:make", "--int8", "--size", 64, "--plan", "p.json", cwd=desk), 3, *said)
    assert names(desk) == before


def test_a_plan_of_another_model(desk, shelf):
    text = (desk / "net.py").read_text()
    (desk / "other.py").write_text(
        text.replace("self.stem", "self.first").replace("return self.body(y) + y", "return self.body(y)")
    )
    before = names(desk)
    plan = shelf / "int8" / "plan.json"
    refused(edge_export("other:make", "--int8", "--size", 64, "--plan", plan, cwd=desk), 3, "plan")
    assert names(desk) == before
