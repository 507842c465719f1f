"""Where onnx, coremltools and pycocotools are not installed, everything else works and says what is missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from command import Done, spawn

ABSENT = ("coremltools", "onnx", "onnxruntime", "onnxsim", "pycocotools", "tensorflow")
EXTRAS = {"onnx": "edge-export[onnx]", "coreml": "edge-export[coreml]"}
pytestmark = pytest.mark.slow


@pytest.fixture
def run(desk):
    """The command in a Python that finds none of the optional packages."""
    lines = ["import sys", *(f"sys.modules[{package!r}] = None" for package in ABSENT)]
    (desk / "sitecustomize.py").write_text("\n".join(lines))
    sources = os.pathsep.join([str(desk), str(Path(__file__).parents[2])])

    def run(*arguments) -> Done:
        process = spawn(*arguments, cwd=desk, env={**os.environ, "PYTHONPATH": sources})
        out, err = process.communicate()
        assert "Traceback" not in err
        return Done(process.returncode, out, err)

    return run


def test_tflite_needs_neither(run, desk):
    done = run("net:make", "--target", "tflite", "--int8", "--size", "64x64", "--images", "4", "--out", "bundle")
    assert done.code == 0, done.err
    assert run("verify", "bundle").code == 0
    assert "CONV_2D" in run("inspect", "bundle").out


@pytest.mark.parametrize("target", EXTRAS)
def test_target_that_needs_one_names_its_line(run, desk, target):
    done = run("net:make", "--target", target, "--size", "64x64", "--out", "bundle")
    assert done.code == 7
    assert f'try   pip install "{EXTRAS[target]}"' in done.err
    assert not (desk / "bundle").exists()


def test_coco_metrics_name_the_line(run, desk):
    (desk / "coco.json").write_text("{}")
    done = run("net:make", "--size", "64x64", "--eval", "coco.json", "--out", "bundle")
    assert done.code == 7
    assert 'try   pip install "edge-export[eval]"' in done.err
    assert not (desk / "bundle").exists()


def test_the_demo_sample_is_left_out_with_a_warning(run, desk):
    done = run("litehrnet_18", "--size", "64x64", "--out", "bundle")
    assert done.code == 0, done.err
    told = " ".join(done.out.split())
    assert "the task was not measured: pycocotools is not installed" in told
    assert 'pip install "edge-export[eval]"' in told


@pytest.mark.parametrize(("name", "target"), [("m.onnx", "onnx"), ("m.mlpackage", "coreml")])
def test_inspect_names_the_line(run, desk, name, target):
    package = desk / name
    if target == "onnx":
        package.write_bytes(b"\x08\x08")
    else:
        (package / "Data").mkdir(parents=True)
        (package / "Data" / "model").write_bytes(b"\x08\x08")
        entries = '{"itemInfoEntries": {"root": {"path": "model"}}, "rootModelIdentifier": "root"}'
        (package / "Manifest.json").write_text(entries)
    done = run("inspect", name)
    assert done.code == 7
    assert f'try   pip install "{EXTRAS[target]}"' in done.err


def test_doctor_is_content_and_names_the_lines(run):
    done = run("doctor")
    assert done.code == 0, done.err
    for package in ABSENT:
        (line,) = (line for line in done.out.splitlines() if line.startswith(f"{package} "))
        assert "absent" in line
    for extra in EXTRAS.values():
        assert f"pip install '{extra}'" in done.out
