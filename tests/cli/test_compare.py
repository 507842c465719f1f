"""`edge-export compare OLD NEW`."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
from command import edge_export
from refusals import refused

from exporter.verify.compare import KINDS


@pytest.fixture(scope="module")
def pair(shelf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`int8/`; `narrow/` with ranges that cut most of what they see off; `wide/`, a larger network of the same name."""
    folder = tmp_path_factory.mktemp("pair")
    shutil.copy(shelf / "net.py", folder)
    shutil.copytree(shelf / "int8", folder / "int8")
    recipe = "model: net:make\nname: net.make\nprecision: int8\npreprocess: {size: [64, 64]}\n"
    (folder / "narrow.yaml").write_text(recipe + "calibration: {method: percentile, percentile: 60}\n")
    assert edge_export("narrow.yaml", "--out", "narrow", "-q", cwd=folder).code == 0
    text = (folder / "net.py").read_text().replace("+ y", "+ y[:, :8]")
    text = text.replace("nn.Conv2d(3, 8,", "nn.Conv2d(3, 32,").replace("nn.Conv2d(8, 8,", "nn.Conv2d(32, 8,")
    (folder / "net.py").write_text(text)
    assert edge_export("net:make", "--int8", "--size", 64, "--out", "wide", "-q", cwd=folder).code == 0
    return folder


def changes(found: dict) -> dict[str, dict]:
    return {change["kind"]: change for change in found["changes"] if change["place"] == "tflite"}


def test_a_bundle_beside_itself_is_the_same(pair):
    done = edge_export("compare", "int8", "int8", cwd=pair)
    assert (done.code, done.err) == (0, "")
    for text in ("int8 SNR", "size", "transposes", "fastest run", "nothing is worse than it may be; 0 of"):
        assert text in done.out
    found = edge_export("compare", "int8", "int8", "--json", cwd=pair).json
    assert found["passed"] is True
    assert found["differing"] == {}
    assert {change["verdict"] for change in found["changes"]} == {"same", ""}
    assert {kind for kind, change in changes(found).items() if change["verdict"] == ""} == {"ops"}


def test_lost_accuracy_ends_in_5(pair):
    done = edge_export("compare", "int8", "narrow", cwd=pair)
    refused(done, 5, "narrow is worse than int8", "tflite: int8 SNR output")
    assert "mse, sha256" in done.out, "what differs between the two runs is told"
    found = edge_export("compare", "int8", "narrow", "--json", cwd=pair)
    row = changes(found.json)["int8 SNR"]
    reports = [json.loads((pair / name / "report.json").read_text()) for name in ("int8", "narrow")]
    snr = [report["verification"]["targets"][0]["int8_snr"][0]["pooled"] for report in reports]
    assert [row["old"], row["new"], row["verdict"]] == [*snr, "worse"]
    back = edge_export("compare", "narrow", "int8", "--json", cwd=pair).json
    assert changes(back)["int8 SNR"]["verdict"] == "better"


def test_a_larger_file_ends_in_6(pair):
    done = edge_export("compare", "int8", "wide", "--json", cwd=pair)
    row = changes(done.json)["size"]
    sizes = [(pair / name / "net.make.tflite").stat().st_size for name in ("int8", "wide")]
    assert [row["old"], row["new"], row["verdict"]] == [*sizes, "worse"]
    assert done.code in (5, 6), "a wider network has another SNR, too"
    assert "tflite: size" in done.err


def test_what_verify_said_is_compared_device_by_device(pair, tmp_path):
    for name in ("old", "new"):
        done = edge_export("verify", "int8", "--on", "local", "--json", cwd=pair)
        (tmp_path / f"{name}.json").write_text(done.out)
    done = edge_export("compare", tmp_path / "old.json", tmp_path / "new.json", "--json", cwd=pair)
    places = {change["place"]: change for change in done.json["changes"]}
    assert "tflite on local" in places
    (timed,) = (place for place in places if place.startswith("tflite int8 on local, "))
    assert places[timed]["kind"] == "fastest run"
    mixed = edge_export("compare", "int8", tmp_path / "new.json", "--json", cwd=pair).json
    alone = [change for change in mixed["changes"] if change["place"] == "tflite on local"]
    assert alone
    assert {(change["old"], change["verdict"]) for change in alone} == {(None, "")}


def test_a_gate_that_fails_only_now_is_a_regression(pair, tmp_path):
    (tmp_path / "net.py").write_text((pair / "net.py").read_text())
    recipe = "model: net:make\nname: net.make\nprecision: int8\npreprocess: {size: [64, 64]}\n"
    (tmp_path / "strict.yaml").write_text(recipe + "gates: {int8_snr: 200}\n")
    assert edge_export("strict.yaml", "--out", "strict", "-q", cwd=tmp_path).code == 5
    done = edge_export("compare", pair / "wide", "strict", "--json", cwd=tmp_path)
    assert done.code == 5
    assert [(gate["name"], gate["limit"]) for gate in done.json["broken"]] == [("int8 SNR", ">= 200 dB")]
    assert edge_export("compare", "strict", "strict", "-q", cwd=tmp_path).code == 0, "it failed before, too"


def test_two_models_are_not_compared(pair, tmp_path):
    (tmp_path / "net.py").write_text((pair / "net.py").read_text().replace("def make", "def other"))
    assert edge_export("net:other", "--int8", "--size", 32, "--out", "other", "-q", cwd=tmp_path).code == 0
    done = edge_export("compare", pair / "int8", "other", cwd=tmp_path)
    refused(done, 3, "are of different models", "model  net:make, there net:other", "input_shapes: x")


REFUSED = {
    "absent": ("absent", ["cannot read absent"]),
    "no-bundle": (".", [". is no finished bundle"]),
    "no-json": ("net.py", ["net.py is not the JSON of verify"]),
}


@pytest.mark.parametrize(("other", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_compared(pair, other, said):
    refused(edge_export("compare", "int8", other, cwd=pair), 3, *said)


@pytest.mark.parametrize(
    ("kind", "old", "new", "verdict"),
    [
        ("size", 1_000_000, 1_010_000, "same"),
        ("size", 1_000_000, 1_010_001, "worse"),
        ("size", 1_000_000, 999_999, "better"),
        ("int8 SNR", 30.0, 29.0, "same"),
        ("int8 SNR", 30.0, 28.9, "worse"),
        ("int8 SNR", math.inf, math.inf, "same"),
        ("int8 SNR", math.inf, 30.0, "worse"),
        ("int8 SNR", 30.0, math.nan, "worse"),
        ("float SNR", math.inf, 91.0, "same"),
        ("float SNR", 91.0, 89.0, "worse"),
        ("transposes", 0, 1, "worse"),
        ("instructions", 1_000_000, 1_001_000, "same"),
        ("instructions", 1_000_000, 1_001_001, "worse"),
        ("fastest run", 10.0, 12.1, "worse"),
        ("fastest run", 10.0, 11.9, "same"),
        ("fastest run", 0.05, 0.09, "same"),
        ("ops", 10, 1000, ""),
    ],
)
def test_how_far_a_figure_may_become_worse(kind, old, new, verdict):
    assert KINDS[kind].verdict(old, new) == verdict
