"""`--eval` through the real command: figures that are known beforehand, the gate, sets that cannot be used."""

from __future__ import annotations

import json

import numpy as np
import pytest
from command import edge_export
from PIL import Image
from refusals import names, refused

COLOURS = ("red", "green", "blue")
MODEL = """
import torch
from torch import nn

class MeanColour(nn.Module):
    '''The class is the colour of which there is most. `floor` is the logit of a fourth class.'''

    def __init__(self, floor=0.0):
        super().__init__()
        self.pick = nn.Conv2d(3, 4, 1)
        with torch.no_grad():
            self.pick.weight.copy_(torch.eye(4)[:, :3, None, None])
            self.pick.bias.copy_(torch.tensor([0.0, 0.0, 0.0, floor]))

    def forward(self, x):
        return self.pick(x).mean((2, 3))

def make():
    return MeanColour()

def crushed():
    return MeanColour(-1000.0)

class Two(MeanColour):
    def forward(self, x):
        return super().forward(x), x.mean((2, 3))

def two():
    return Two()
"""
RECIPE = """
model: colours:{function}
name: colours
preprocess: {{size: [32, 32], mean: [0, 0, 0], std: [1, 1, 1]}}
labels: labels.txt
"""


def picture(colour: int, shade: int = 0) -> Image.Image:
    """Mostly of one colour, never twice the same."""
    pixels = np.full((24, 40, 3), 60 + shade, np.uint8)
    pixels[..., colour] = 200 - shade
    return Image.fromarray(pixels)


def labelled(folder, wrong=0):
    """Ten pictures a class; the first `wrong` of each show another colour."""
    for index, name in enumerate(COLOURS):
        place = folder / name
        place.mkdir(parents=True)
        for shade in range(10):
            picture((index + (shade < wrong)) % 3, shade).save(place / f"{shade}.png")


@pytest.fixture
def colours(desk):
    """colours.py with recipes make.yaml, crushed.yaml and two.yaml, photos/ with three wrong labels in ten."""
    (desk / "colours.py").write_text(MODEL)
    (desk / "labels.txt").write_text("\n".join([*COLOURS, "nothing"]) + "\n")
    for function in ("make", "crushed", "two"):
        (desk / f"{function}.yaml").write_text(RECIPE.format(function=function))
    labelled(desk / "photos", wrong=3)
    return desk


def scores(done):
    """(target, file, metric) -> value of every row."""
    rows = done.json["verification"]["evaluation"]["scores"]
    return {(row["target"], row["file"], row["metric"]): row["value"] for row in rows}


def test_every_file_has_the_figure_that_the_labels_say(colours):
    done = edge_export(
        "make.yaml", "--int8", "--target", "all", "--eval", "photos", "--out", "out", "--json", cwd=colours
    )
    assert done.code == 0, done.err
    files = [("", "PyTorch")] + [
        (target, file) for target in ("tflite", "onnx", "coreml") for file in ("float32", "int8")
    ]
    assert scores(done) == {(*file, "top-1"): pytest.approx(0.7) for file in files}
    evaluation = done.json["verification"]["evaluation"]
    assert (evaluation["task"], evaluation["images"], evaluation["seen_in_calibration"]) == ("classification", 30, 0)
    assert evaluation["scores"][0]["interval"] == pytest.approx([0.5212, 0.8334], abs=1e-4)  # Wilson, 21 of 30
    drops = {row["drop"] for row in evaluation["scores"][1:]}
    assert drops == {0.0}
    assert any("reference executor (not Core ML)" in row["runtime"] for row in evaluation["scores"])
    for page in ("report.md", "report.html"):
        text = (colours / "out" / page).read_text()
        assert "70.00 %" in text
        assert "52.12 to 83.34" in text


def test_labels_in_a_list_and_a_limit(colours):
    lines = [f"{index}/{name}.png,{name}" for index, name in enumerate(COLOURS)]
    for index, name in enumerate(COLOURS):
        (colours / "some" / str(index)).mkdir(parents=True)
        picture(index).save(colours / "some" / str(index) / f"{name}.png")
    (colours / "some" / "labels.csv").write_text("\n".join(["file,label", *lines]))
    done = edge_export("make.yaml", "--eval", "some", "--eval-images", 2, "--json", cwd=colours)
    assert done.code == 0, done.err
    assert scores(done) == {("", "PyTorch", "top-1"): 1.0, ("tflite", "float32", "top-1"): 1.0}
    evaluation = done.json["verification"]["evaluation"]
    assert (evaluation["images"], evaluation["available"]) == (2, 3)


def test_a_file_that_loses_the_task_fails_the_gate(colours):
    """A logit of -1000 beside others below 1: codes are 4 apart, so every picture is red to the int8 file."""
    with (colours / "crushed.yaml").open("a") as recipe:
        recipe.write("gates: {metric_drop: 0.05}\n")
    done = edge_export("crushed.yaml", "--int8", "--calib", "photos", "--eval", "photos", "--json", cwd=colours)
    assert done.code == 5, done.err
    assert "top-1 drop  36.67 points, must be <= 5 points" in done.err
    assert scores(done)["tflite", "int8", "top-1"] == pytest.approx(1 / 3)
    drop = done.json["verification"]["evaluation"]["scores"][-1]
    assert drop["drop_interval"][0] > 10
    (gate,) = [gate for gate in done.json["verification"]["gates"] if gate["name"] == "top-1 drop"]
    assert (gate["family"], gate["passed"]) == ("accuracy", False)


def test_the_gate_holds_where_nothing_is_lost(colours):
    with (colours / "make.yaml").open("a") as recipe:
        recipe.write("gates: {metric_drop: 0.0}\n")
    done = edge_export("make.yaml", "--int8", "--eval", "photos", "--json", cwd=colours)
    assert done.code == 0, done.err
    (gate,) = [gate for gate in done.json["verification"]["gates"] if gate["name"] == "top-1 drop"]
    assert gate["value"] == "0.00 points"


def test_pictures_that_were_calibrated_on_are_counted_by_content(colours):
    (colours / "calib").mkdir()
    for number, path in enumerate(sorted((colours / "photos").rglob("*.png"))[:5]):
        (colours / "calib" / f"renamed{number}.png").write_bytes(path.read_bytes())
    done = edge_export("make.yaml", "--int8", "--calib", "calib", "--eval", "photos", "--json", cwd=colours)
    assert done.code == 0, done.err
    assert done.json["verification"]["evaluation"]["seen_in_calibration"] == 5
    assert any(
        "5 of 30 pictures of photos were calibrated on" in text for text in done.json["verification"]["warnings"]
    )


def test_random_weights_say_nothing_about_a_task(colours):
    for index in range(10):
        (colours / "numbers" / str(index)).mkdir(parents=True)
        picture(index % 3).save(colours / "numbers" / str(index) / "a.png")
    done = edge_export(
        "fasternet_t0", "--weights", "random", "--size", "64x64", "--eval", "numbers", "--out", "out", cwd=colours
    )
    assert done.code == 0, done.err
    assert "Random weights: these figures say nothing about the task." in (colours / "out" / "report.md").read_text()


def cut(folder):
    labelled(folder)
    path = folder / "red" / "3.png"
    path.write_bytes(path.read_bytes()[:-40])


def unknown(folder):
    labelled(folder)
    (folder / "red").rename(folder / "rde")


def flat(folder):
    folder.mkdir()
    picture(0).save(folder / "a.png")


def listing(*lines):
    def make(folder):
        flat(folder)
        (folder / "labels.csv").write_text("\n".join(lines))

    return make


BAD = {
    "missing": (lambda folder: None, ["set does not exist"]),
    "empty": (lambda folder: folder.mkdir(), ["no pictures in set", "the folder is empty"]),
    "flat": (flat, ["set says nothing about the classes of its pictures", "labels.csv"]),
    "unknown label": (unknown, ["1 of 3 classes of set are not the model's", "rde  did you mean red?"]),
    "truncated": (cut, ["1 of 30 pictures in set cannot be read", "red/3.png"]),
    "text": (lambda folder: folder.write_text("x"), ["set is not a source of labelled pictures"]),
    "no columns": (listing("a.png,red"), ["set/labels.csv has no columns file and label", "'a.png,red'"]),
    "no lines": (listing("file,label"), ["set/labels.csv lists no pictures"]),
    "bad lines": (
        listing("file,label", "a.png,red", "b.png,red", "a.png,green", "a.png,"),
        [
            "3 of 4 lines",
            "line 3  b.png  does not exist",
            "line 4  a.png  is listed in line 2",
            "line 5  a.png  has no",
        ],
    ),
    "unlisted label": (listing("file,label", "a.png,mauve"), ["1 of 1 classes of set are not the model's", "mauve"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_set_that_cannot_be_used_is_refused(colours, case):
    make, said = BAD[case]
    make(colours / "set")
    before = names(colours)
    done = edge_export("make.yaml", "--int8", "--eval", "set", "--quiet", cwd=colours)
    refused(done, 3, *said)
    assert names(colours) == before


def test_a_model_that_is_no_classifier_is_refused(colours):
    done = edge_export("two.yaml", "--eval", "photos", "--quiet", cwd=colours)
    refused(done, 2, "pictures with classes judge a classifier", "[1, 4] and [1, 3]")


def test_labels_of_another_model_are_refused(colours):
    (colours / "labels.txt").write_text("red\n")
    done = edge_export("make.yaml", "--eval", "photos", "--quiet", cwd=colours)
    refused(done, 2, "the recipe has 1 labels, and the model 4 classes")


def test_a_limit_or_a_gate_without_a_set_is_refused(colours):
    refused(edge_export("make.yaml", "--eval-images", 3, "--quiet", cwd=colours), 2, "evaluation.limit needs")
    with (colours / "make.yaml").open("a") as recipe:
        recipe.write("gates: {metric_drop: 0.01}\n")
    refused(edge_export("make.yaml", "--quiet", cwd=colours), 2, "gates.metric_drop needs evaluation.source (--eval)")


def test_the_same_run_gives_the_same_evaluation(colours):
    runs = [edge_export("crushed.yaml", "--int8", "--eval", "photos", "--json", cwd=colours) for _ in range(2)]
    first, again = (json.dumps(run.json["verification"]["evaluation"]) for run in runs)
    assert first == again
