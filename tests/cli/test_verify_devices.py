"""`verify --on`: the same files on devices, and what is told about them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from command import edge_export
from refusals import names, refused

from exporter.quantize.data import default_samples_dir


@pytest.fixture(scope="module")
def pair(shelf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `int8/` and `float/`, two exports of one model; tests only read it."""
    folder = tmp_path_factory.mktemp("pair")
    shutil.copy(shelf / "net.py", folder)
    shutil.copytree(shelf / "int8", folder / "int8")
    done = edge_export("net:make", "--size", 64, "--out", "float", cwd=folder)
    assert done.code == 0, done.err
    return folder


def test_on_local_codes_are_compared_and_times_taken(pair):
    done = edge_export("verify", "int8", "--on", "local", "--float", "float", "--json", cwd=pair)
    assert done.code == 0, done.err
    (row,) = done.json["devices"]
    assert (row["device"], row["target"], row["samples"], row["problem"]) == ("local", "tflite", 4, None)
    assert [(c["output"], c["equal"], c["max_lsb"], c["count"]) for c in row["codes"]] == [
        ("output", 1.0, 0, 4 * 8 * 32 * 32)
    ]
    assert list(row["latency"]) == ["int8", "float32"]
    for time in row["latency"].values():
        assert 0 < time["min_ms"] <= time["median_ms"] <= time["p90_ms"]
        assert (time["device"]["kind"], time["threads"], time["runs"]) == ("real", 1, 20)
        assert time["device"]["cores"]
    assert [(gate["name"], gate["value"], gate["passed"]) for gate in done.json["gates"]] == [
        ("codes equal to this machine's", "100.0000%", True),
        ("difference from this machine", "0 LSB", True),
    ]
    assert "local  net.make.tflite" in done.err


def test_on_local_as_a_table(pair):
    done = edge_export("verify", "int8", "--on", "local", "--on", "local", "--quiet", cwd=pair)
    assert (done.code, done.out, done.err) == (0, "", "")
    done = edge_export("verify", "int8", "--on", "local", cwd=pair)
    assert done.code == 0
    for text in ("4 inputs", "max LSB", "median ms", "cores", "2 of 2 gates held"):
        assert text in done.out


def test_a_float_file_is_compared_in_decibels(pair):
    (row,) = edge_export("verify", "float", "--on", "local", "--json", cwd=pair).json["devices"]
    assert row["codes"] == []
    assert [(snr["output"], snr["pooled"], snr["max_error"]) for snr in row["floats"]] == [("output", None, 0.0)]


def test_junit_and_summary(pair, tmp_path):
    (tmp_path / "summary.md").write_text("what another step wrote\n")
    options = ("--on", "local", "--junit", tmp_path / "junit.xml", "--summary", tmp_path / "summary.md")
    assert edge_export("verify", "int8", *options, "-q", cwd=pair).code == 0
    root = ElementTree.parse(tmp_path / "junit.xml").getroot()
    cases = root.findall("testsuite/testcase")
    suites = [suite.get("name") for suite in root]
    assert suites == ["files", "gates at export", "golden outputs of net.make.tflite", "local"]
    assert int(root.get("tests")) == len(cases) == sum(int(suite.get("tests")) for suite in root)
    assert (root.get("failures"), root.get("errors")) == ("0", "0")
    assert {case.get("name") for case in root[3]} == {
        "net.make.tflite runs",
        "tflite: codes equal to this machine's",
        "tflite: difference from this machine",
    }
    told = (tmp_path / "summary.md").read_text()
    assert told.startswith("what another step wrote\n## int8")
    assert "### Devices against this machine" in told
    assert names(tmp_path) == {"junit.xml", "summary.md"}


@pytest.mark.parametrize("io", ["int8", "uint8"])
@pytest.mark.parametrize("target", ["tflite", "onnx"])
def test_photographs_are_fed_as_codes_where_the_file_takes_codes(desk, io, target):
    arguments = ("--int8", "--size", 64, "--io", io, "--target", target, "--out", "b", "-q")
    assert edge_export("net:make", *arguments, cwd=desk).code == 0
    done = edge_export("verify", "b", "--on", "local", "--json", cwd=desk)
    assert done.code == 0, done.err
    (row,) = done.json["devices"]
    assert row["samples"] == 4, "the golden picture is one of the four, to the last code: it is not fed twice"
    assert [(codes["max_lsb"], codes["count"]) for codes in row["codes"]] == [(0, 4 * 8 * 32 * 32)]


def test_images_by_number_and_by_folder(pair, tmp_path):
    for name in ("cat.jpg", "dogs.jpg"):
        shutil.copy(default_samples_dir() / name, tmp_path)
    for given, samples in (("2", 2), ("6", 6), (str(tmp_path), 3)):
        done = edge_export("verify", "int8", "--on", "local", "--images", given, "--json", cwd=pair)
        assert done.json["devices"][0]["samples"] == samples


REFUSED = {
    "no-device": (["--float", "float"], 2, ["--float without --on", "--on local"]),
    "unknown-device": (["--on", "lokal"], 2, ["no device is called 'lokal'", "did you mean local?"]),
    "no-counts": (["--on", "local", "--baseline", "b.json"], 2, ["without a device that counts", "--on arm64"]),
    "not-float": (["--on", "local", "--float", "int8"], 2, ["--float int8 is int8, and so is int8"]),
    "no-bundle": (["--on", "local", "--float", "."], 3, [". is not a bundle"]),
    "no-pictures": (["--on", "local", "--images", "0"], 2, ["at least one sample is needed"]),
    "junit-nowhere": (["--junit", "absent/j.xml"], 2, ["cannot write absent/j.xml"]),
    "summary-folder": (["--summary", "."], 2, ["cannot write ."]),
}


@pytest.mark.parametrize(("arguments", "code", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_verified(pair, arguments, code, said):
    refused(edge_export("verify", "int8", *arguments, cwd=pair), code, *said)


def test_a_float_export_of_other_weights(pair, tmp_path):
    shutil.copy(pair / "net.py", tmp_path)
    (tmp_path / "net.py").write_text((pair / "net.py").read_text().replace("manual_seed(0)", "manual_seed(1)"))
    assert edge_export("net:make", "--size", 64, "--out", "other", "-q", cwd=tmp_path).code == 0
    done = edge_export("verify", pair / "int8", "--on", "local", "--float", "other", cwd=tmp_path)
    refused(done, 3, "no float export of the model of", "state_sha256")


def test_images_for_a_model_that_takes_no_pictures(desk):
    np.savez(desk / "x.npz", x=np.random.default_rng(0).normal(size=(9, 3, 32, 32)).astype(np.float32))
    assert edge_export("net:make", "--int8", "--calib", "x.npz", "--out", "b", "-q", cwd=desk).code == 0
    (row,) = edge_export("verify", "b", "--on", "local", "--json", cwd=desk).json["devices"]
    assert row["samples"] == 1
    refused(edge_export("verify", "b", "--on", "local", "--images", 4, cwd=desk), 2, "takes no pictures")


def test_nothing_of_a_damaged_bundle_is_sent_to_a_device(pair, tmp_path):
    bundle = Path(shutil.copytree(pair / "int8", tmp_path / "bundle"))
    model = bundle / "net.make.tflite"
    model.write_bytes(model.read_bytes()[:-100])
    done = edge_export("verify", bundle, "--on", "local", cwd=tmp_path)
    refused(done, 3, "changed  net.make.tflite")
    assert "max LSB" not in done.out


def test_gates_that_failed_at_export_fail_again(desk):
    (desk / "strict.yaml").write_text("model: net:make\nprecision: int8\ngates: {int8_snr: 200}\n")
    arguments = ("strict.yaml", "--size", 64, "--out", "b", "-q")
    refused(edge_export(*arguments, cwd=desk), 5, "1 of 6 gates failed", "int8 SNR")
    done = edge_export("verify", "b", "--junit", "j.xml", cwd=desk)
    refused(done, 5, "1 of 6 gates failed when it was exported")
    (failure,) = ElementTree.parse(desk / "j.xml").getroot().iter("failure")
    assert "must be >= 200 dB" in failure.get("message")
    assert json.loads((desk / "b" / "report.json").read_text())["passed"] is False
