"""Marks in pictures: where they are drawn, what is said of them, and the files that carry them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sample_report import efficientdet
from test_report import Page

from exporter.quantize.data import default_samples_dir
from exporter.quantize.preprocess import Preprocess
from exporter.report import html, markdown
from exporter.report.pictures import LONGEST, as_image, pictures_note, write_pictures
from exporter.report.pictures.draw import draw, in_words
from exporter.verify.gallery import Gallery
from exporter.verify.marks import Areas, Box, Boxes, Class, Classes, Joint, Joints, Marks

GREY = Image.new("RGB", (200, 100), (128, 128, 128))
LABELS = ("cat", "dog", "bird")
ONE = Boxes((Box((0.25, 0.3, 0.75, 0.9), 1, 0.87),))
PREPROCESS = Preprocess(size=(64, 64), resize="letterbox")


def changed(marks: Marks) -> np.ndarray:
    """Where the picture differs from the plain one."""
    difference = np.abs(np.asarray(draw(GREY, marks, LABELS), int)[:100] - 128)
    return difference.max(2) > 24


def test_a_box_is_drawn_along_its_edges():
    drawn = changed(ONE)
    assert drawn[60, 50]
    assert drawn[60, 149]
    assert drawn[89, 100]
    assert not drawn[60, 100]
    assert not drawn[95:].any()
    assert not drawn[:, 160:].any()


def test_no_box_is_said_in_the_picture():
    drawn = changed(Boxes(()))
    assert drawn[:30, :150].any()
    assert not drawn[40:].any()


def test_limbs_join_the_joints_that_were_found():
    """Shoulder, elbow and wrist of COCO's right arm: numbers 6, 8, 10."""
    arm = Joints((Joint((0.2, 0.5), 6, 0.9), Joint((0.5, 0.5), 8, 0.9), Joint((0.8, 0.5), 10, 0.9)), 17)
    assert changed(arm)[50, 40:161].all()
    broken = Joints((arm.found[0], arm.found[2]), 17)
    assert not changed(broken)[50, 60:140].any()


def test_joints_of_other_skeletons_are_points():
    drawn = changed(Joints((Joint((0.2, 0.5), 0, 0.9), Joint((0.8, 0.5), 1, 0.9)), 5))
    assert drawn[50, 40]
    assert not drawn[50, 60:140].any()


def test_classes_stand_below_the_picture_with_bars_as_long_as_they_are_likely():
    drawn = draw(GREY, Classes((Class(0, 0.75), Class(2, 0.25))), LABELS)
    assert drawn.width == 200
    assert np.abs(np.asarray(drawn, int)[:99] - 128).max() < 24
    rows = np.asarray(drawn, int)[100:]
    lengths = [int((rows[line].max(1) > 60).sum()) for line in (8, 30)]  # above the letters
    assert lengths[0] > 2 * lengths[1] > 0


def test_areas_tint_the_picture():
    halves = changed(Areas(np.array([[0, 1]])))
    assert halves.all()
    left, right = (np.asarray(draw(GREY, Areas(np.array([[0, 1]])), ()))[50, x] for x in (20, 180))
    assert (left != right).any()


@pytest.mark.parametrize(
    ("marks", "words"),
    [
        (ONE, "dog 0.87"),
        (Boxes(()), "no box with a score of 0.3 or more"),
        (Boxes((Box((0, 0, 1, 1), 7, 0.5),)), "class 7 0.50"),
        (Boxes(ONE.found * 6), "dog 0.87, dog 0.87, dog 0.87, dog 0.87 and 2 more"),
        (Joints((Joint((0, 0), 1, 0.5),), 17), "1 of 17 joints found"),
        (Classes((Class(0, 0.875), Class(2, 0.1))), "cat 87.5%, bird 10.0%"),
        (Areas(np.array([[0, 0, 0, 2]])), "cat 75%, bird 25%"),
    ],
)
def test_what_was_found_in_words(marks, words):
    assert in_words(marks, LABELS) == words


def test_a_preprocessed_picture_comes_back():
    preprocess = Preprocess(size=(64, 64))
    with Image.open(default_samples_dir() / "cat.jpg") as image:
        wanted = image.convert("RGB").resize((64, 64), Image.Resampling.BILINEAR)
        back = as_image(preprocess.apply(image), preprocess)
    assert back.size == (LONGEST, LONGEST)
    small = np.asarray(back.resize((64, 64), Image.Resampling.BOX), int)
    assert np.abs(small - np.asarray(wanted, int)).mean() < 6


@pytest.fixture
def gallery() -> Gallery:
    gallery = Gallery(lambda outputs: ONE, ["wide.jpg"], "2 pictures")
    picture = PREPROCESS.apply(Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 60, 3), np.uint8)))
    for by in ("tflite int8", "tflite float32", "PyTorch"):
        gallery.add(0, (picture[None],), by, [torch.zeros(1)])
    return gallery


def test_files_lie_side_by_side_without_the_padding(gallery, tmp_path):
    (picture,) = write_pictures(gallery, PREPROCESS, LABELS, tmp_path)
    assert [panel.by for panel in picture.panels] == ["PyTorch", "tflite float32", "tflite int8"]
    for panel in picture.panels:
        with Image.open(tmp_path / panel.file) as image:
            assert image.size == (400, 200)
        assert (tmp_path / panel.file).stat().st_size < 60_000


def test_the_same_pictures_are_the_same_bytes(gallery, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_pictures(gallery, PREPROCESS, LABELS, tmp_path / name)
    first, second = (sorted((tmp_path / name).rglob("*.jpg")) for name in ("one", "two"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_the_page_holds_them_and_markdown_links_them(gallery, tmp_path: Path):
    pictures = write_pictures(gallery, PREPROCESS, ("<b>cat", "dog|&"), tmp_path)
    report = efficientdet().model_copy(update={"pictures": pictures, "pictures_note": "Drawn: boxes."})
    page = Page(html(report, tmp_path))
    images = [value for key, value in page.attributes if key == "src"]
    assert len(images) == 3
    assert all(value and value.startswith("data:image/jpeg;base64,") for value in images)
    assert next(value for key, value in page.attributes if key == "alt") == "wide.jpg, PyTorch: dog|& 0.87"
    told = markdown(report)
    assert all(f"]({panel.file})" in told for panel in pictures[0].panels)
    assert "dog\\|&amp; 0.87" in told


def test_random_weights_are_said(gallery):
    assert pictures_note(gallery, {}, random_weights=True).startswith("Random weights: nothing sensible can be found.")
    told = pictures_note(gallery, {"CC0-1.0": ["wide.jpg (A. Nother)"]}, random_weights=False)
    assert told.startswith("2 pictures, as the network sees them: boxes")
    assert told.endswith("Cut, scaled and drawn into: wide.jpg (A. Nother): CC0-1.0.")
