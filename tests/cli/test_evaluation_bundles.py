"""`edge-export verify BUNDLE --eval`: a bundle's files on labelled pictures, on this machine and on a device."""

from __future__ import annotations

import pytest
from command import edge_export
from refusals import refused
from test_evaluation import colours
from test_evaluation_coco import models, spotted

__all__ = ["colours", "models"]


def scores(done):
    """(target, device, metric) -> value of every row."""
    rows = done.json["evaluation"]["scores"]
    return {(row["target"], row["device"], row["metric"]): row["value"] for row in rows}


@pytest.fixture
def bundle(colours):
    """out/: an int8 classifier in two formats whose gates ask that nothing be lost."""
    with (colours / "make.yaml").open("a") as recipe:
        recipe.write("gates: {metric_drop: 0.0}\n")
    options = ["--target", "tflite", "--target", "onnx", "--eval", "photos", "--out", "out"]
    done = edge_export("make.yaml", "--int8", *options, "--quiet", cwd=colours)
    assert done.code == 0, done.err
    return colours


def test_the_figures_of_the_export_come_again_here_and_on_a_device(bundle):
    done = edge_export("verify", "out", "--eval", "photos", "--on", "local", "--json", cwd=bundle)
    assert done.code == 0, done.err
    files = [(target, device) for target in ("tflite", "onnx") for device in ("", "local")]
    assert scores(done) == {(*file, "top-1"): pytest.approx(0.7) for file in files}
    gates = {(gate["target"], gate["device"]): gate for gate in done.json["gates"] if gate["name"] == "top-1 drop"}
    assert gates["tflite", "local"]["value"] == "0.00 points"
    runtimes = {row["runtime"] for row in done.json["evaluation"]["scores"] if row["target"] == "tflite"}
    assert len(runtimes) == 1


def test_the_summary_has_the_table(bundle):
    options = ["--eval", "photos", "--eval-images", 8, "--summary", "summary.md"]
    done = edge_export("verify", "out", *options, cwd=bundle)
    assert done.code == 0, done.err
    text = (bundle / "summary.md").read_text()
    assert "| tflite int8 | top-1 |" in text
    assert "8 pictures of 30 in photos" in text


@pytest.mark.parametrize(
    ("resize", "postprocess"), [("letterbox", "raw"), ("stretch", "decoded"), ("letterbox", "nms")]
)
def test_a_detector_of_a_bundle_finds_everything(models, resize, postprocess):
    """Its heads lie in the file with the channels last, and mean boxes through the anchors of the model built again."""
    spotted(models / "set", resize)
    options = ["--postprocess", postprocess, "--target", "tflite", "--target", "onnx", "--calib", "set"]
    done = edge_export(f"{resize}.yaml", "--int8", *options, "--io", "int8", "--out", "out", "--quiet", cwd=models)
    assert done.code == 0, done.err
    done = edge_export("verify", "out", "--eval", "set/coco.json", "--json", cwd=models)
    assert done.code == 0, done.err
    found = scores(done)
    assert found == {(target, "", name): pytest.approx(1) for target, _, name in found}
    assert {(target, name) for target, _, name in found} >= {("onnx", "AP"), ("tflite", "AP75")}


def test_a_set_that_does_not_fit_is_refused(bundle):
    (bundle / "photos" / "red").rename(bundle / "photos" / "mauve")
    done = edge_export("verify", "out", "--eval", "photos", "--quiet", cwd=bundle)
    refused(done, 3, "1 of 3 classes of photos are not the model's")


def test_a_number_of_pictures_without_pictures_is_refused(bundle):
    refused(edge_export("verify", "out", "--eval-images", 3, "--quiet", cwd=bundle), 2, "--eval-images without --eval")
