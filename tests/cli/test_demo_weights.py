"""An export without --weights of a model with demo weights: what it is calibrated on, judged on, and what it says."""

from __future__ import annotations

import json
import sys

import pytest
from command import edge_export
from refusals import refused

CHANCE = 1 / 16


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    done = edge_export("fasternet_t0", "--int8", "--target", "tflite", "--target", "onnx", "--out", "out", cwd=folder)
    assert done.code == 0, done.err
    return done, folder / "out"


def test_the_report_says_so_first(exported):
    done, folder = exported
    table = done.out[done.out.index("fasternet_t0 · int8") :].splitlines()
    assert table[1].rstrip().split(None, 1) == [
        "weights",
        "demo, trained on procedural scenes (card recipes/demo/fasternet_t0.md)",
    ]
    for page in ("report.md", "report.html", "report.json"):
        assert "random weights" not in (folder / page).read_text().lower()
    report = json.loads((folder / "report.json").read_text())
    assert report["weights"].startswith("demo, ")
    assert report["random_weights"] is False


def test_it_is_calibrated_on_scenes_and_judged_on_others(exported):
    _, folder = exported
    report = json.loads((folder / "report.json").read_text())
    assert report["calibration"]["source"] == "calib_data/demo/classification/calibration"
    assert report["calibration"]["count"] == 32
    found = report["verification"]["evaluation"]
    assert found["source"] == "calib_data/demo/classification/evaluation"
    assert (found["images"], found["seen_in_calibration"]) == (48, 0)


def test_only_the_first_targets_files_are_judged(exported):
    _, folder = exported
    scores = json.loads((folder / "report.json").read_text())["verification"]["evaluation"]["scores"]
    assert {row["target"] for row in scores} == {"", "tflite"}


def test_the_model_knows_its_task(exported):
    _, folder = exported
    scores = json.loads((folder / "report.json").read_text())["verification"]["evaluation"]["scores"]
    least = {row["file"]: row["interval"][0] for row in scores if row["metric"] == "top-1"}
    assert min(least.values()) > 3 * CHANCE


def test_the_manifest_holds_no_path_of_this_machine(exported):
    _, folder = exported
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["recipe"]["calibration"]["source"] == "calib_data/demo/classification/calibration"
    assert manifest["recipe"]["evaluation"]["source"] == "calib_data/demo/classification/evaluation"
    assert manifest["recipe"]["labels"] == "labels.txt"
    (licence,) = manifest["calibration"]["licences"].items()
    assert licence[0] == "Apache-2.0"
    assert len(licence[1]) == 32
    assert len(manifest["weights_sha256"]) == 64


def test_the_bundle_is_diagnosed_on_the_same_pictures_from_another_folder(exported, tmp_path):
    done = edge_export("diagnose", exported[1], "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.json["layers"]


def test_eval_replaces_the_sample_and_judges_every_file(exported, tmp_path):
    from exporter.quantize.data import own_samples_dir

    source = own_samples_dir() / "demo" / "classification" / "evaluation"
    done = edge_export(
        "fasternet_t0", "--target", "tflite", "--target", "onnx", "--eval", source, "--eval-images", 4, "--json",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert {row["target"] for row in done.json["verification"]["evaluation"]["scores"]} == {"", "tflite", "onnx"}


def test_another_number_of_classes_is_refused(tmp_path):
    done = edge_export("csppeleenet", "--num-classes", 10, cwd=tmp_path)
    refused(done, 2, "have 16 classes, not 10", "--weights random, or --weights FILE")


def test_a_model_without_demo_weights_is_refused(tmp_path):
    done = edge_export("cspdarknet53", "--weights", "demo", cwd=tmp_path)
    refused(done, 2, "cspdarknet53 has no demo weights", "efficientdet_d0, fasternet_t0")


def test_where_only_a_slow_stand_in_runs_the_file_the_sample_is_left_out_with_a_warning(tmp_path):
    pytest.importorskip("coremltools")
    if sys.platform == "darwin":
        pytest.skip("Core ML runs the file here")
    done = edge_export("fasternet_t0", "--target", "coreml", "--size", "64x64", "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.json["verification"]["evaluation"] is None
    assert any("the task was not measured" in text for text in done.json["verification"]["warnings"])
