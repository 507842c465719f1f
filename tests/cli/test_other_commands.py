"""`verify`, `inspect`, `list` and `doctor`."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from command import edge_export, spawn
from refusals import refused

from exporter.build import list_models
from exporter.builtin import demo_models
from exporter.bundle import sha256


@pytest.fixture
def bundle(desk: Path, shelf: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(shelf / "int8", desk / "bundle"))


def renew_manifest(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    for name in manifest["files"]:
        manifest["files"][name]["sha256"] = sha256(bundle / name)
    (bundle / "manifest.json").write_text(json.dumps(manifest))


# --- verify -----------------------------------------------------------------------------------------------------------
def test_a_whole_bundle_passes(shelf):
    done = edge_export("verify", "int8", cwd=shelf)
    assert (done.code, done.err) == (0, "")
    for text in ("10 of 10 as exported", "as at export", "median", "1 thread", "output  ", "✓ pass: all 10 files"):
        assert text in done.out


def test_verify_as_json(shelf):
    check = edge_export("verify", "int8", "--json", cwd=shelf).json
    assert check["passed"] is True
    assert [(row["output"], row["difference"]) for row in check["targets"][0]["golden"]] == [("output", 0.0)]
    (target,) = check["targets"]
    assert target["latency"]["threads"] == 1
    assert target["latency"]["device"]["processor"] == check["processor"]
    assert target["runtime"] == target["runtime_at_export"]


def test_verify_quietly(shelf):
    done = edge_export("verify", "int8", "--quiet", cwd=shelf)
    assert (done.code, done.out, done.err) == (0, "", "")


def test_changed_missing_and_extra_files_are_named(bundle):
    (bundle / "report.md").write_text("tampered")
    (bundle / "plan.json").unlink()
    (bundle / "notes.txt").touch()
    done = edge_export("verify", bundle, cwd=bundle.parent)
    refused(done, 3, "missing  plan.json", "changed  report.md")
    assert "notes.txt, not in the manifest" in done.out
    assert "1 of 1 golden output within tolerance" in done.out, "the model itself is whole, so it runs"


def test_an_extra_file_is_no_failure(bundle):
    (bundle / "notes.txt").touch()
    assert edge_export("verify", bundle, cwd=bundle.parent).code == 0


def test_a_damaged_model_is_not_run(bundle):
    model = bundle / "net.make.tflite"
    model.write_bytes(model.read_bytes()[:-100])
    done = edge_export("verify", bundle, cwd=bundle.parent)
    refused(done, 3, "changed  net.make.tflite")
    assert "net.make.tflite cannot be trusted" in done.out


def test_other_outputs_fail_by_name(bundle):
    path = bundle / "golden" / "tflite" / "output_0.bin"
    stored = np.fromfile(path, "<f4")
    stored[7] += 1
    stored.tofile(path)
    renew_manifest(bundle)
    done = edge_export("verify", bundle, cwd=bundle.parent)
    refused(done, 5, "1 of 1 golden outputs of net.make.tflite differ", "output  by 1, may be 0.0")
    assert "✗ FAIL" in done.out


def test_a_nan_in_the_outputs_is_no_match(bundle):
    path = bundle / "golden" / "tflite" / "output_0.bin"
    stored = np.fromfile(path, "<f4")
    stored[7] = np.nan
    stored.tofile(path)
    renew_manifest(bundle)
    refused(edge_export("verify", bundle, cwd=bundle.parent), 5, "1 of 1 golden outputs of net.make.tflite differ")


def test_another_runtime_is_named_as_a_reason(bundle):
    golden = bundle / "golden" / "tflite" / "golden.json"
    golden.write_text(golden.read_text().replace("ai-edge-litert ", "ai-edge-litert 0."))
    (bundle / "golden" / "tflite" / "output_0.bin").write_bytes(bytes(4 * 8 * 32 * 32))
    renew_manifest(bundle)
    refused(
        edge_export("verify", bundle, cwd=bundle.parent), 5, "exported with ai-edge-litert 0.", "pip install ai-edge"
    )


def test_a_bundle_that_was_not_verified_says_so(desk):
    arguments = ("--int8", "--size", 64, "--stop-after", "lower", "--out", "b")
    assert edge_export("net:make", *arguments, cwd=desk).code == 0
    done = edge_export("verify", "b", cwd=desk)
    assert done.code == 0
    assert "its export stopped before verify" in done.out


NO_BUNDLES = {
    "absent": (lambda folder: None, ["bundle is not a bundle", "edge-export inspect FILE"]),
    "empty": (Path.mkdir, ["bundle is not a bundle"]),
    "not-json": (lambda f: (f.mkdir(), (f / "manifest.json").write_text("{")), ["manifest.json is damaged"]),
    "a-list": (lambda f: (f.mkdir(), (f / "manifest.json").write_text("[]")), ["manifest.json is damaged"]),
    "no-files": (lambda f: (f.mkdir(), (f / "manifest.json").write_text("{}")), ["it lists no files"]),
}


@pytest.mark.parametrize(("make", "said"), NO_BUNDLES.values(), ids=NO_BUNDLES)
def test_what_is_no_bundle(desk, make, said):
    make(desk / "bundle")
    refused(edge_export("verify", "bundle", cwd=desk), 3, *said)


# --- inspect ----------------------------------------------------------------------------------------------------------
def test_inspect_shows_inputs_outputs_ops_sizes_and_metadata(shelf):
    done = edge_export("inspect", "int8", cwd=shelf)
    assert (done.code, done.err) == (0, "")
    for text in (
        "serving_default",
        "tflite 1.14.0 or newer",
        "4 of 4 ops (100 %); 2 quantize/dequantize at the border",
        "x      1x64x64x3  float32  (x - [123.68 116.28 103.53]) / [58.395 57.12 57.375]",
        "output  1x32x32x8  float32",
        "CONV_2D           3      2",
        "weights 19",
    ):
        assert text in done.out


def test_inspect_as_json_adds_up(shelf):
    found = edge_export("--json", "inspect", "int8/net.make.tflite", cwd=shelf).json
    sizes = found["sizes"]
    assert sizes["total"] == (shelf / "int8" / "net.make.tflite").stat().st_size
    assert sizes["weights"] == 3 * 8 * 9 + 8 * 8 * 9
    assert sizes["weights"] + sizes["constants"] + sizes["rest"] == sizes["total"]
    assert sum(op["count"] for op in found["ops"]) == found["integer_ops"] + found["float_ops"] + found["border_ops"]


FOREIGN = {
    "missing": (lambda path, model: None, ["cannot read m.tflite"]),
    "empty": (lambda path, model: path.touch(), ["m.tflite is not a readable TFLite file"]),
    "text": (lambda path, model: path.write_text("hello world"), ["m.tflite is not a readable TFLite file"]),
    "name-only": (lambda path, model: path.write_bytes(b"\x1c\0\0\0TFL3"), ["m.tflite is not a readable TFLite file"]),
    "truncated": (lambda path, model: path.write_bytes(model[: len(model) // 2]), ["not a readable TFLite file"]),
    "folder": (lambda path, model: path.mkdir(), ["m.tflite is not a bundle"]),
}


@pytest.mark.parametrize(("make", "said"), FOREIGN.values(), ids=FOREIGN)
def test_inspect_refuses_what_is_no_model(desk, shelf, make, said):
    make(desk / "m.tflite", (shelf / "int8" / "net.make.tflite").read_bytes())
    refused(edge_export("inspect", "m.tflite", cwd=desk), 3, *said)


# --- list and doctor --------------------------------------------------------------------------------------------------
def test_list_has_every_model_on_a_line_of_80_columns(desk):
    done = edge_export("list", cwd=desk, environment={"COLUMNS": "80"})
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    for info in list_models():
        (line,) = (line for line in lines if line.replace("*", " ").split()[:1] == [info.name])
        weights = [*(["demo"] if info.name in demo_models() else []), *info.checkpoints]
        assert line.rstrip().endswith(", ".join(weights) or "none"), line
    line = next(line for line in lines if line.startswith("tf_efficientdet_d0*"))
    assert line.split() == [
        "tf_efficientdet_d0*",
        "512",
        "3.88",
        "M",
        "2.49",
        "G",
        "AP",
        "34.2",
        "coco,",
        "coco-advprop",
    ]


def test_list_as_json_is_the_registry(desk):
    entries = edge_export("list", "--json", cwd=desk).json
    assert [entry["name"] for entry in entries if entry["name"] == entry["model"]] == [m.name for m in list_models()]
    d0 = next(entry for entry in entries if entry["name"] == "efficientdet_d0")
    assert (d0["parameters"], d0["recipe"]) == (3_877_763, True)


def test_doctor_on_this_machine(desk):
    done = edge_export("doctor", cwd=desk)
    assert (done.code, done.err) == (0, "")
    for text in ("torch", "XNNPACK delegate", "32 for calibration", "GB free"):
        assert text in done.out


def test_doctor_names_the_line_that_gets_what_is_absent(desk):
    findings = {finding["what"]: finding for finding in edge_export("doctor", "--json", cwd=desk).json}
    for package, extra in (("coremltools", "coreml"), ("tensorflow", "tensorflow")):
        if findings[package]["state"] == "absent":
            assert findings[package]["remedy"] == f"pip install 'edge-export[{extra}]'"


def test_doctor_finds_a_cache_that_cannot_be_written(desk):
    (desk / "file").touch()
    environment = {"EDGE_EXPORT_CACHE": str(desk / "file" / "cache")}
    findings = edge_export("doctor", "--json", cwd=desk, environment=environment).json
    cache = next(finding for finding in findings if finding["what"] == "cache")
    assert (cache["state"], cache["remedy"]) == ("broken", "export EDGE_EXPORT_CACHE=FOLDER")


@pytest.mark.slow
@pytest.mark.parametrize("package", ["torch", "ai_edge_litert"])
def test_doctor_without_what_every_export_needs(desk, package):
    (desk / "sitecustomize.py").write_text(f"import sys\nsys.modules['{package}'] = None\n")
    process = spawn("doctor", cwd=desk, env={**os.environ, "PYTHONPATH": str(desk)})
    out, err = process.communicate()
    assert process.returncode == 7, err
    assert "absent" in out
    assert err.splitlines()[-1] == "exit 7 (device or runtime)"
    assert "Traceback" not in err
