"""Wrong command lines and recipes: exit 2, the nearest name, the line in the file."""

from __future__ import annotations

import pytest
from command import edge_export
from refusals import names, refused


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(
            ["efficientdet_d9"], ["unknown model 'efficientdet_d9'", "did you mean efficientdet_d"], id="model"
        ),
        pytest.param(["net.py"], ["your own model: net:FUNCTION"], id="python-file"),
        pytest.param(["my.yaml"], ["there is no recipe file my.yaml"], id="no-recipe-file"),
        pytest.param(["inspcet", "x.tflite"], ["there is no command 'inspcet'", "did you mean inspect?"], id="command"),
        pytest.param(["net:make", "--int4"], ["no such option", "--int8"], id="option"),
        pytest.param(["net:make", "again"], ["unexpected extra argument", "again"], id="two-models"),
        pytest.param(["net:make", "--size", "big"], ["--size 'big' is not a size", "512x512"], id="size-word"),
        pytest.param(["net:make", "--size", "0x64"], ["--size '0x64' is not a size"], id="size-zero"),
        pytest.param(["net:make", "--size", "64x64x3"], ["--size '64x64x3' is not a size"], id="size-three"),
        pytest.param(["efficientdet_d0", "--size", "16"], ["image_size is 16x16", "at least 32"], id="size-too-small"),
        pytest.param(["net:make", "--int8", "--io", "int4"], ["--io", "'int4'", "'uint8'"], id="io"),
        pytest.param(["net:make", "--io", "int8"], ["needs precision: int8 (--int8)"], id="io-of-float"),
        pytest.param(
            ["net:make", "--int8", "--onnx-reduce-range"], ["--int8 --target onnx"], id="reduced-without-onnx"
        ),
        pytest.param(["net:make", "--int8", "--ranges", "mean"], ["--ranges", "'mean'", "'entropy'"], id="ranges"),
        pytest.param(["net:make", "--ranges", "mse"], ["--ranges without --int8"], id="ranges-of-float"),
        pytest.param(["net:make", "--stop-after", "lowr"], ["--stop-after", "'lowr'", "'lower'"], id="stage"),
        pytest.param(
            ["net:make", "--json", "--stop-after", "lower"], ["--json prints the report"], id="json-of-no-report"
        ),
        pytest.param(["net:make", "--images", "0"], ["--images", "greater than or equal to 1"], id="images"),
        pytest.param(["net:make", "--num-classes", "7"], ["your own function sets its classes"], id="classes-of-own"),
        pytest.param(["net:make", "--int8", "--fp16"], ["exclude each other"], id="two-precisions"),
        pytest.param(["net:make", "--target", "onnxx"], ["unknown target 'onnxx'", "tflite"], id="target"),
        pytest.param(
            ["net:make", "--postprocess", "nms"],
            ["postprocess: nms is for detectors", "Net has no num_classes and no priors and no predictions"],
            id="no-detector",
        ),
        pytest.param(["net:make", "--postprocess", "box"], ["--postprocess", "'box'", "'decoded'"], id="postprocess"),
        pytest.param(["net:make", "--plan", "p.json"], ["--plan without --int8"], id="plan-of-float"),
        pytest.param(
            ["net:make", "--int8", "--plan", "p", "--ranges", "mse"], ["exclude each other"], id="plan-and-ranges"
        ),
        pytest.param(
            ["efficientdet_d0", "--weights", "cocco"], ["no weights named 'cocco'", "did you mean coco?"], id="weights"
        ),
    ],
)
def test_command_lines(desk, arguments, said):
    refused(edge_export(*arguments, cwd=desk), 2, *said)
    assert names(desk) == {"net.py"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(
            "model: net:make\nprecison: int8\n", ["r.yaml:2  precison  unknown key  did you mean precision?"], id="key"
        ),
        pytest.param(
            "model: net:make\ncalibration:\n  limit: 4\n  metod: mse\n",
            ["r.yaml:4  calibration.metod  unknown key  did you mean method?"],
            id="key-in-a-section",
        ),
        pytest.param("model: net:make\nprecision: int9\n", ["r.yaml:2  precision", "'float16'"], id="no-such-choice"),
        pytest.param(
            "model: net:make\ncalibration: {limit: many}\n",
            ["r.yaml:2  calibration.limit", "integer"],
            id="word-for-a-number",
        ),
        pytest.param(
            "model: net:make\ncalibration: {limit: 0}\n", ["calibration.limit", "greater than 0"], id="no-samples"
        ),
        pytest.param(
            "model: net:make\npreprocess: {size: 64}\n", ["r.yaml:2  preprocess.size"], id="number-for-a-pair"
        ),
        pytest.param(
            "model: net:make\npreprocess: {fill: [0, 0, 0]}\n", ["fill needs resize: letterbox"], id="ignored-setting"
        ),
        pytest.param("model: net:make\ntargets: []\n", ["name at least one of tflite"], id="no-target"),
        pytest.param("model: net:make\ncalibration: 7\n", ["r.yaml:2  calibration"], id="number-for-a-section"),
        pytest.param("model: net:make\nname: ../up\n", ["r.yaml:2  name"], id="name-that-is-a-path"),
        pytest.param("precision: int8\n", ["model", "required"], id="no-model"),
        pytest.param(
            "# two\n\nmodel: efficientdet_d9\n", ["r.yaml:3", "did you mean efficientdet_d"], id="unknown-model"
        ),
        pytest.param("model: net:make\nlabels: none.txt\n", ["cannot read the labels none.txt"], id="no-labels-file"),
        pytest.param("model: [net\nname: x\n", ["r.yaml is not YAML", "r.yaml:2"], id="not-yaml"),
        pytest.param("", ["it holds no mapping"], id="empty"),
        pytest.param("- net:make\n", ["it holds no mapping"], id="a-list"),
        pytest.param(
            "model: net:make\nx: 1\ny: 2\n",
            ["does not fit in 2 places", "r.yaml:2  x", "r.yaml:3  y"],
            id="all-at-once",
        ),
    ],
)
def test_recipes(desk, text, said):
    (desk / "r.yaml").write_text(text)
    refused(edge_export("r.yaml", cwd=desk), 2, *said)
    assert names(desk) == {"net.py", "r.yaml"}


def test_a_recipe_of_other_bytes(desk):
    (desk / "r.yaml").write_bytes(b"\xff\xfe\x00model")
    refused(edge_export("r.yaml", cwd=desk), 2, "cannot read the recipe r.yaml")


def test_options_go_over_a_broken_section(desk):
    (desk / "r.yaml").write_text("model: net:make\ncalibration: 7\n")
    refused(edge_export("r.yaml", "--images", 4, cwd=desk), 2, "r.yaml:2  calibration")
