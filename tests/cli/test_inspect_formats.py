"""`inspect` beyond .tflite: what has no model's name, packages, and a bundle of several files."""

from __future__ import annotations

import pytest
from command import edge_export
from refusals import refused

WRONG = {
    "missing": (lambda place: None, "bundel", ["there is no bundel"]),
    "another_suffix": (lambda place: (place / "m.tflit").touch(), "m.tflit", ["m.tflit is no .tflite", "did you mean"]),
    "no_suffix": (lambda place: (place / "model").touch(), "model", ["model is no .tflite, .onnx or .mlpackage"]),
    "empty_onnx": (lambda place: (place / "m.onnx").touch(), "m.onnx", ["m.onnx is not a readable ONNX file"]),
    "empty_package": (lambda place: (place / "m.mlpackage").mkdir(), "m.mlpackage", ["not a whole Core ML package"]),
    "folder": (lambda place: (place / "m.onnx").mkdir(), "m.onnx", ["m.onnx is not a bundle"]),
}


@pytest.mark.parametrize(("make", "name", "said"), WRONG.values(), ids=WRONG)
def test_what_is_no_model(desk, make, name, said):
    make(desk)
    refused(edge_export("inspect", name, cwd=desk), 3, *said)


@pytest.mark.slow
def test_bundle_of_two_files_shows_both(desk):
    both = ("--target", "tflite", "--target", "onnx", "--stop-after", "lower", "--out", "bundle")
    assert edge_export("net:make", "--size", "64x64", *both, cwd=desk).code == 0
    sheets = edge_export("inspect", "bundle", "--json", cwd=desk).json
    assert [sheet["path"] for sheet in sheets] == ["bundle/net.make.tflite", "bundle/net.make.onnx"]
    assert sheets[0]["weights"] == sheets[1]["weights"] == {"float32": 3 * 8 * 9 + 8 * 8 * 9}
    shown = edge_export("inspect", "bundle", cwd=desk)
    assert (shown.code, shown.out.count("sha256")) == (0, 2)
