"""`edge-export MODEL`: what lands on disk (DESIGN.md §6), and what is printed."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import edge_export, spawn
from PIL import Image
from refusals import names, refused

from exporter.lower import NAMES
from exporter.quantize.data import default_samples_dir
from exporter.report.inspect import inspect_file

INT8 = ("net:make", "--int8", "--size", "64")
REPORTS = {"report.md", "report.html", "report.json", "junit.xml"}
BUNDLE = {"manifest.json", "net.make.tflite", "preprocess.json", "plan.json", "golden", *REPORTS}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file that may not differ between two equal runs: reports hold times, and the manifest their hashes."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: content for name, content in files.items() if "report." not in name and name != "manifest.json"}


@pytest.mark.slow
def test_efficientdet_from_the_real_shell(tmp_path):
    process = spawn(
        "efficientdet_d0", "--weights", "random", "--target", "tflite", "--int8", "--size", "64x64", cwd=tmp_path
    )
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert out.splitlines()[-1] == "out/efficientdet_d0-int8/"
    head = out[out.index("efficientdet_d0 · int8 · tflite") :].splitlines()
    assert head[1].startswith("weights      RANDOM (seed 0)")
    bundle = tmp_path / "out" / "efficientdet_d0-int8"
    assert names(bundle) == BUNDLE - {"net.make.tflite"} | {"efficientdet_d0.tflite", "labels.txt", "pictures"}
    assert "RANDOM" in "".join((bundle / "report.md").read_text().splitlines()[:8])
    assert json.loads((bundle / "report.json").read_text())["passed"] is True
    found = inspect_file(bundle)
    assert (found.labels, found.transposes, found.float_ops) == (90, 0, 0)
    assert [t.name for t in found.outputs] == [f"{head}_p{level}" for head in ("class", "box") for level in range(3, 8)]


def test_the_bundle_holds_what_the_design_says(shelf):
    assert names(shelf / "int8") == BUNDLE
    assert names(shelf / "int8" / "golden" / "tflite") == {"golden.json", "input_0.bin", "output_0.bin"}


def test_the_manifest_has_size_and_sha256_of_every_file(shelf):
    folder = shelf / "int8"
    listed = json.loads((folder / "manifest.json").read_text())["files"]
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert listed.keys() == there - {"manifest.json"}
    for name, entry in listed.items():
        content = (folder / name).read_bytes()
        assert entry == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_golden_files_are_raw_and_as_large_as_they_say(shelf):
    folder = shelf / "int8" / "golden" / "tflite"
    golden = json.loads((folder / "golden.json").read_text())
    for entry in (*golden["inputs"], *golden["outputs"]):
        assert (folder / entry["file"]).stat().st_size == 4 * np.prod(entry["shape"])


def test_two_runs_give_the_same_bytes(desk, shelf):
    assert edge_export(*INT8, "--out", "again", cwd=desk).code == 0
    assert contents(desk / "again") == contents(shelf / "int8")


def test_an_older_bundle_is_replaced(desk):
    for precision in ("--int8", "--fp16"):
        assert edge_export("net:make", precision, "--size", 64, "--out", "bundle", cwd=desk).code == 0
    assert names(desk / "bundle") == BUNDLE - {"plan.json"}
    assert names(desk) == {"net.py", "bundle"}


def test_a_plan_gives_the_same_file_without_calibrating(desk, shelf):
    done = edge_export(*INT8, "--plan", shelf / "int8" / "plan.json", "--out", "planned", cwd=desk)
    assert done.code == 0, done.err
    assert "calibration:" not in done.out
    assert contents(desk / "planned") == contents(shelf / "int8")


@pytest.mark.parametrize("io", ["int8", "uint8"])
def test_integer_inputs_and_outputs(desk, io):
    done = edge_export(*INT8, "--io", io, "--out", "bundle", cwd=desk)
    assert done.code == 0, done.err
    found = inspect_file(desk / "bundle")
    assert [(t.dtype, t.scale is not None) for t in (*found.inputs, *found.outputs)] == [(io, True)] * 2
    assert found.float_ops == 0


def test_float16_weights(desk):
    assert edge_export("net:make", "--fp16", "--size", "64", cwd=desk).code == 0
    assert edge_export("net:make", "--fp32", "--size", "64", cwd=desk).code == 0
    half, full = (inspect_file(desk / "out" / f"net.make-float{bits}") for bits in (16, 32))
    assert half.sizes.weights == full.sizes.weights // 2
    assert half.inputs[0].dtype == full.inputs[0].dtype == "float32"


def test_calibration_from_arrays(desk):
    np.savez(desk / "samples.npz", x=np.random.default_rng(0).normal(size=(9, 3, 64, 64)).astype(np.float32))
    done = edge_export(*INT8, "--calib", "samples.npz", "--json", cwd=desk)
    assert done.code == 0, done.err
    facts = done.json["calibration"]
    assert (facts["source"], facts["available"], facts["count"]) == ("samples.npz", 9, 8)


def test_calibration_from_a_folder(desk):
    (desk / "photos" / "deep").mkdir(parents=True)
    for number in range(10):
        picture = Image.open(default_samples_dir() / "cat.jpg").rotate(36 * number)
        picture.save(desk / "photos" / ("deep" if number % 2 else "") / f"{number}.png")
    done = edge_export(*INT8, "--calib", "photos", "--images", 4, "--ranges", "minmax", "--json", cwd=desk)
    assert done.code == 0, done.err
    facts = done.json["calibration"]
    assert (facts["source"], facts["count"], facts["method"]) == ("photos", 4, "minmax")


RECIPE = """\
model: net:make
name: mine
precision: int8
labels: names.txt
preprocess: {size: [64, 64]}
outputs: [map]
"""


def test_a_recipe_anywhere_on_disk(desk):
    (desk / "deep").mkdir()
    (desk / "deep" / "names.txt").write_text("cat\ndog\n")
    (desk / "deep" / "r.yaml").write_text(RECIPE)
    done = edge_export("deep/r.yaml", cwd=desk)
    assert done.code == 0, done.err
    bundle = desk / "out" / "mine-int8"
    assert (bundle / "labels.txt").read_text() == "cat\ndog\n"
    assert [tensor.name for tensor in inspect_file(bundle).outputs] == ["map"]


def test_a_recipe_needs_no_more_than_a_model(desk):
    """Preprocessing follows from the registry's facts."""
    (desk / "r.yaml").write_text("model: tf_efficientdet_lite0\npreprocess: {size: [64, 64]}\n")
    done = edge_export("r.yaml", "--stop-after", "lower", "-q", cwd=desk)
    assert done.code == 0, done.err
    facts = json.loads((desk / "out" / "tf_efficientdet_lite0-float" / "preprocess.json").read_text())
    assert (facts["resize"], facts["size"], facts["mean"]) == ("letterbox", [64, 64], [0.5, 0.5, 0.5])


GATES = {
    "accuracy": ("float_snr: 300", 5, "float SNR"),
    "size": ("max_size: 0.001", 6, "size"),
    "both": ("max_size: 0.001, float_snr: 300", 5, "2 of 6 gates failed"),
}


@pytest.mark.parametrize(("gates", "code", "said"), GATES.values(), ids=GATES)
def test_a_failed_gate_still_leaves_the_bundle_and_its_report(desk, gates, code, said):
    (desk / "r.yaml").write_text(f"model: net:make\nname: net.make\nprecision: int8\ngates: {{{gates}}}\n")
    refused(edge_export("r.yaml", "--size", "64", "--out", "bundle", cwd=desk), code, said, "must be")
    assert names(desk / "bundle") == BUNDLE
    assert json.loads((desk / "bundle" / "report.json").read_text())["passed"] is False


def test_json_is_all_of_standard_output(desk):
    done = edge_export(*INT8, "--json", cwd=desk)
    assert done.json["passed"] is True
    assert done.json == json.loads((desk / "out" / "net.make-int8" / "report.json").read_text())
    assert "quantize" in done.err


@pytest.mark.parametrize("result", [["--json"], ["--stop-after", "simplify"]], ids=["json", "graph"])
def test_what_a_model_prints_does_not_mix_with_the_result(desk, result):
    (desk / "loud.py").write_text("import net\ndef make():\n    print('LOUD')\n    return net.make()\n")
    done = edge_export("loud:make", "--size", "64", *result, cwd=desk)
    assert done.code == 0
    assert "LOUD" in done.err
    assert "LOUD" not in done.out


def test_quiet_prints_nothing(desk):
    done = edge_export("-q", *INT8, cwd=desk)
    assert (done.code, done.out, done.err) == (0, "", "")
    assert names(desk / "out") == {"net.make-int8"}


def test_options_may_come_before_the_model(desk):
    assert edge_export("--int8", "--size", "64", "--quiet", "net:make", cwd=desk).code == 0
    assert names(desk / "out") == {"net.make-int8"}


def test_export_may_be_named(desk):
    assert edge_export("export", "net:make", "-q", "--size", "64", cwd=desk).code == 0
    assert names(desk / "out") == {"net.make-float"}


@pytest.mark.parametrize("stage", ["capture", "simplify", "quantize"])
def test_stop_after_prints_the_graph_alone(desk, stage):
    done = edge_export(*INT8, "--stop-after", stage, cwd=desk)
    assert done.code == 0, done.err
    assert done.out.startswith("graph net.make") or "conv2d" in done.out.splitlines()[1]
    assert ("int8" in done.out) is (stage == "quantize")
    assert stage in done.err
    assert names(desk) == {"net.py"}


@pytest.mark.parametrize(
    ("stage", "left"),
    [
        ("build", None),
        ("lower", {"manifest.json", "net.make.tflite", "preprocess.json", "plan.json"}),
        ("verify", {"manifest.json", "net.make.tflite", "preprocess.json", "plan.json", "golden"}),
    ],
)
def test_stop_after_leaves_what_is_done(desk, stage, left):
    done = edge_export(*INT8, "--stop-after", stage, cwd=desk)
    assert (done.code, done.err) == (0, "")
    if left is None:
        assert names(desk) == {"net.py"}
    else:
        assert names(desk / "out" / "net.make-int8") == left
        assert done.out.splitlines()[-1] == "out/net.make-int8/"


def test_the_text_of_brackets_is_printed_as_it_is(desk):
    done = edge_export(*INT8, "--out", "[bold]odd[/]", "--stop-after", "lower", cwd=desk)
    assert done.out.splitlines()[-1] == "[bold]odd[/]/"


@pytest.mark.parametrize("words", [["--version"], ["export", "--help"], ["--help"]], ids=" ".join)
def test_version_and_help(desk, words):
    done = edge_export(*words, cwd=desk)
    assert done.code == 0
    assert done.err == ""
    assert "edge-export" in done.out
    assert ("0." in done.out) is (words == ["--version"])


def test_the_console_script_is_the_same_command(desk):
    script = Path(sys.executable).with_name("edge-export")
    if not script.exists():
        pytest.skip("no console script beside this Python")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == edge_export("--version", cwd=desk).out


# --- several targets --------------------------------------------------------------------------------------------------
def test_two_targets_share_one_run(desk, shelf):
    done = edge_export(*INT8, "--target", "tflite", "--target", "onnx", "--out", "both", cwd=desk)
    assert done.code == 0, done.err
    assert done.out.count("calibration:") == 1
    assert names(desk / "both") == BUNDLE | {"net.make.onnx"}
    assert names(desk / "both" / "golden") == {"tflite", "onnx"}
    ours, alone = contents(desk / "both"), contents(shelf / "int8")
    assert ours["net.make.tflite"] == alone["net.make.tflite"]
    assert ours["plan.json"] == alone["plan.json"]
    report = json.loads((desk / "both" / "report.json").read_text())
    found = {target["target"]: target for target in report["verification"]["targets"]}
    assert list(found) == report["targets"] == ["tflite", "onnx"]
    assert [target["samples"] for target in found.values()] == [report["verification"]["samples"], 1]
    assert "onnx on the first 1" in done.out
    assert [row["max_lsb"] for row in found["tflite"]["integer_parity"]] == [0]
    assert max(row["max_lsb"] for row in found["onnx"]["integer_parity"]) <= 1
    assert {row["file"] for row in report["verification"]["agreement"] if not row["differences"]} == {"tflite", "onnx"}
    pairs = {(row["one"], row["other"]): row["max_lsb"] for row in report["verification"]["distances"]}
    assert pairs.keys() == {("tflite", "onnx"), ("tflite", "interpreter"), ("onnx", "interpreter")}
    assert pairs["tflite", "interpreter"] == 0
    gates = report["verification"]["gates"]
    assert {gate["target"] for gate in gates} == {"tflite", "onnx"}
    for text in ("tflite float", "onnx int8", "onnx output", "onnx: integer ops", "onnx: integers read back"):
        assert text in done.out
    checked = edge_export("verify", "both", cwd=desk)
    assert checked.code == 0, checked.err
    assert "2 of 2 golden outputs within tolerance" in checked.out


def test_all_is_every_target_and_a_format_counts_once(desk):
    for targets in (("all",), ("onnx", "all")):
        arguments = [word for name in targets for word in ("--target", name)]
        done = edge_export("net:make", "--size", 64, *arguments, "--json", cwd=desk)
        assert done.code == 0, done.err
        assert sorted(done.json["targets"]) == sorted(NAMES)


def test_every_target_in_int8_holds_and_gives_the_same(desk):
    done = edge_export(*INT8, "--target", "all", "--out", "all", cwd=desk)
    assert done.code == 0, done.err
    report = json.loads((desk / "all" / "report.json").read_text())["verification"]
    assert [row["file"] for row in report["agreement"] if not row["differences"]] == list(NAMES)
    for target in report["targets"]:
        assert max(row["max_lsb"] for row in target["integer_parity"]) <= 1
    assert "reference executor (not Core ML)" in done.out
    checked = edge_export("verify", "all", "--json", cwd=desk).json
    assert checked["passed"] is True
    golden = {target["target"]: [row["output"] for row in target["golden"]] for target in checked["targets"]}
    assert list(golden) == list(NAMES)
    assert set(map(tuple, golden.values())) == {("output",)}
    latency = {target["target"]: target["latency"] is not None for target in checked["targets"]}
    assert latency == {"tflite": True, "onnx": True, "coreml": sys.platform == "darwin"}
    picture = json.loads((desk / "all" / "golden" / "coreml" / "golden.json").read_text())["inputs"]
    assert [(entry["dtype"], entry["shape"]) for entry in picture] == [("uint8", [64, 64, 3])]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--target", "coreml", "--int8", "--min-os", "16"), ["int8 needs iOS 17", "--min-os 17"]),
        (("--target", "coreml", "--weights-int8", "--min-os", "15"), ["weights-int8 needs iOS 16"]),
        (("--target", "onnx", "--min-os", "17"), ["min_os is for Core ML"]),
        (("--target", "coreml", "--min-os", "12"), ["min_os"]),
        (("--target", "tflite", "--weights-int8"), ["tflite cannot be written in weights-int8"]),
        (("--target", "coreml", "--int8", "--io", "int8"), ["--io float"]),
    ],
    ids=["int8", "weights", "no-coreml", "unknown", "tflite", "io"],
)
def test_what_an_ios_cannot_run_is_refused_before_work_starts(desk, arguments, said):
    done = edge_export("net:make", "--size", 64, *arguments, cwd=desk)
    refused(done, 2, *said)
    assert "calibration" not in done.out
    assert names(desk) == {"net.py"}


def test_a_gate_names_the_target_that_failed_it(desk):
    (desk / "r.yaml").write_text(
        "model: net:make\npreprocess: {size: [64, 64]}\ntargets: [tflite, onnx]\ngates: {float_snr: 300}\n"
    )
    done = edge_export("r.yaml", cwd=desk)
    assert done.code == 5
    assert "tflite: float SNR" in done.err
    assert "onnx: float SNR" in done.err


def test_a_damaged_file_of_one_target_is_not_run_and_the_other_is(desk):
    arguments = ("--target", "tflite", "--target", "onnx", "--out", "both")
    assert edge_export("net:make", "--size", 64, *arguments, cwd=desk).code == 0
    model = desk / "both" / "net.make.onnx"
    model.write_bytes(model.read_bytes()[:-100])
    done = edge_export("verify", "both", cwd=desk)
    assert done.code == 3
    assert "net.make.onnx cannot be trusted" in done.out
    assert "1 of 1 golden output within tolerance" in done.out
