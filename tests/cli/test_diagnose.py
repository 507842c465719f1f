"""`edge-export diagnose` from a shell, through the public API, on a bundle, and in the report of a failed gate."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from torch import Tensor, nn

import exporter
from exporter.cli import main
from exporter.errors import AccuracyError
from exporter.verify.localize import ADVISED

MODEL = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.blocks = nn.Sequential(*(nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU()) for _ in range(3)))
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, image):
        return self.head(self.blocks(self.stem(image)))


def spoiled():
    torch.manual_seed(0)
    net = Net()
    for part in net.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
            nn.init.zeros_(part.bias)
    with torch.no_grad():
        net.stem[1].weight[3] *= 64
        net.blocks[0][0].weight[:, 3] /= 64
    return net.eval()
"""
OPTIONS = ["--size", "32", "--images", "8"]


@pytest.fixture
def model(tmp_path, monkeypatch) -> str:
    (tmp_path / "spoiled_net.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return "spoiled_net:spoiled"


def run(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["edge-export", *arguments])
    monkeypatch.setenv("COLUMNS", "200")  # or a row of the table is two lines
    try:
        main([*arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_the_spoiled_layer_is_named_with_its_line_and_what_helps(model, monkeypatch, capsys):
    assert run(monkeypatch, "diagnose", model, *OPTIONS) == 0
    told = capsys.readouterr().out
    assert re.search(r"^ ?1 +stem\.0 +conv2d .*one range, \d+x as wide as the median", told, re.MULTILINE)
    assert "spoiled_net.py:" in told
    assert re.search(r"gain +[\d.]+ dB -> [\d.]+ dB expected, [\d.]+ dB measured", told)
    assert "--int8 --keep-float stem.0" in " ".join(told.split())


def test_the_command_to_retry_works_and_gains(model, monkeypatch, capsys):
    assert run(monkeypatch, "diagnose", model, *OPTIONS, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    advice = found["advice"]
    assert advice["measured_snr"] > found["output_snr"] + 3
    assert advice["measured_snr"] == pytest.approx(advice["expected_snr"], abs=3)
    assert 0 < advice["integer_macs"] < 1
    globs = [word for glob in advice["keep_float"] for word in ("--keep-float", glob)]
    assert run(monkeypatch, model, *OPTIONS, "--int8", *globs, "--out", "kept", "-q") == 0
    kept = json.loads(Path("kept/report.json").read_text())["verification"]
    assert kept["targets"][0]["int8_snr"][0]["pooled"] > found["output_snr"] + 3


def test_files_are_written_where_asked(model, monkeypatch):
    assert run(monkeypatch, "diagnose", model, *OPTIONS, "-q", "--out", "a/found") == 0
    assert run(monkeypatch, "diagnose", model, *OPTIONS, "-q", "--out", "a/found") == 0
    assert {path.name for path in Path("a/found").iterdir()} == {"diagnosis.html", "diagnosis.svg", "diagnosis.json"}
    found = json.loads(Path("a/found/diagnosis.json").read_text())
    picture = ElementTree.parse("a/found/diagnosis.svg")
    dots = [e for e in picture.iter("{http://www.w3.org/2000/svg}circle") if e.get("class") in ("own", "worst")]
    assert len(dots) == 2 + sum(row["own_snr"] is not None for row in found["layers"])  # and two of the legend
    page = Path("a/found/diagnosis.html").read_text()
    assert "<svg" in page
    assert not re.search(r"(src|href)\s*=", page)


def test_a_bundle_is_diagnosed_with_its_own_plan(model, monkeypatch, capsys):
    assert run(monkeypatch, model, *OPTIONS, "--int8", "--out", "bundle", "-q") == 0
    capsys.readouterr()
    assert run(monkeypatch, "diagnose", "bundle", "--json") == 0
    from_bundle = json.loads(capsys.readouterr().out)
    assert run(monkeypatch, "diagnose", model, *OPTIONS, "--json") == 0
    again = json.loads(capsys.readouterr().out)
    assert from_bundle["layers"] == again["layers"]
    assert run(monkeypatch, "diagnose", "bundle", "--size", "64") == 2
    Path("spoiled_net.py").write_text(MODEL.replace("manual_seed(0)", "manual_seed(1)"))
    monkeypatch.delitem(__import__("sys").modules, "spoiled_net")
    assert run(monkeypatch, "diagnose", "bundle", "-q") == 3


class Squashed(nn.Module):
    """One output far below another in the same convolution: per-tensor codes drown it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 4, 1)
        with torch.no_grad():
            self.stem.weight[0] *= 100
            self.head.weight[:, 0] = 0

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.stem(image).relu())


def test_the_report_of_a_failed_gate_names_the_layers(tmp_path):
    options = {"gates": {"int8_snr": 60.0}, "int8": True, "out": tmp_path / "out"}
    with pytest.raises(AccuracyError):
        exporter.export(Squashed().eval(), torch.zeros(1, 3, 32, 32), **options)
    report = json.loads((tmp_path / "out" / "report.json").read_text())["verification"]["diagnosis"]
    assert report["layers"][0]["module"] == "stem"
    assert "Where int8 loses accuracy" in (tmp_path / "out" / "report.md").read_text()
    assert 'class="layers"' in (tmp_path / "out" / "report.html").read_text()


def test_a_module_that_no_name_builds(tmp_path, monkeypatch, capsys):
    exporter.export(Squashed().eval(), torch.zeros(1, 3, 32, 32), int8=True, out=tmp_path / "out", check=False)
    assert run(monkeypatch, "diagnose", str(tmp_path / "out")) == 2
    assert "exporter.diagnose(module" in capsys.readouterr().err


def test_a_sound_export_is_not_diagnosed(tmp_path):
    result = exporter.export(Squashed().eval(), torch.zeros(1, 3, 32, 32), int8=True, out=tmp_path / "out", check=False)
    worst = min(row.pooled for row in result.report.verification.targets[0].int8_snr)
    assert (result.report.verification.diagnosis is None) == (worst >= 6)


def test_the_api_gives_the_same(tmp_path):
    found = exporter.diagnose(Squashed().eval(), torch.zeros(1, 3, 32, 32))
    assert found.layers[0].module == "stem"
    assert len(found.advice.keep_float) <= 3 * ADVISED


def test_what_cannot_be_diagnosed(model, monkeypatch, capsys):
    assert run(monkeypatch, model, *OPTIONS, "--out", "float", "-q") == 0
    assert run(monkeypatch, "diagnose", "float") == 2
    assert "is not an int8 bundle" in capsys.readouterr().err
    assert run(monkeypatch, "diagnose", model, *OPTIONS, "--keep-float", "steam.0") == 2
    assert "did you mean stem.0?" in capsys.readouterr().err
