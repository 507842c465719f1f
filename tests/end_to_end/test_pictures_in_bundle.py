"""Exports whose report shows pictures: every ending of a detector, and none where outputs say nothing."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from small_detector import SIZE, make
from torch import nn

import exporter
from exporter.quantize.data import default_samples_dir

EXAMPLE = torch.zeros(1, 3, SIZE, SIZE)


@pytest.mark.parametrize("postprocess", ["raw", "decoded", "nms"])
def test_a_detector_is_shown_in_four_pictures(postprocess: str, tmp_path: Path) -> None:
    result = exporter.export(
        make(),
        EXAMPLE,
        int8=True,
        postprocess=postprocess,
        out=tmp_path / "out",
        check=False,
        preprocess={"size": [SIZE] * 2},
    )
    assert len(result.report.pictures) == 4
    for picture in result.report.pictures:
        assert [panel.by for panel in picture.panels] == ["PyTorch", "tflite float32", "tflite int8"]
        first, second, _ = (panel.text for panel in picture.panels)
        assert first == second  # the float file finds what PyTorch finds
    assert "astronaut.jpg (NASA" in result.report.pictures_note
    listed = json.loads((tmp_path / "out" / "manifest.json").read_text())["files"]
    linked = re.findall(r"\]\((pictures/[^)]+)\)", (tmp_path / "out" / "report.md").read_text())
    assert len(linked) == 12
    assert set(linked) <= set(listed)
    assert (tmp_path / "out" / "report.html").read_text().count("data:image/jpeg;base64,") == 12


def test_labelled_pictures_are_shown_where_a_model_is_evaluated(tmp_path: Path) -> None:
    torch.manual_seed(0)
    names = ("astronaut", "cat", "coffee", "dogs", "fig", "rocks")
    for i, name in enumerate(names):
        folder = tmp_path / "labelled" / ("even", "odd")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(default_samples_dir() / f"{name}.jpg", folder)
    classifier = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    evaluation = {"source": str(tmp_path / "labelled")}
    result = exporter.export(
        classifier,
        EXAMPLE,
        int8=True,
        target=["tflite", "onnx"],
        evaluation=evaluation,
        out=tmp_path / "out",
        check=False,
    )
    assert [picture.name for picture in result.report.pictures] == [
        "even/astronaut.jpg", "even/coffee.jpg", "odd/cat.jpg", "odd/dogs.jpg"
    ]  # fmt: skip
    for picture in result.report.pictures:
        assert [panel.by for panel in picture.panels] == ["PyTorch", "tflite float32", "tflite int8"]
        assert all("class 0" in panel.text for panel in picture.panels)
    assert result.report.pictures_note.startswith(f"From {evaluation['source']}, as the network sees them")


def test_a_model_of_unknown_meaning_has_no_pictures(tmp_path: Path) -> None:
    torch.manual_seed(0)
    result = exporter.export(nn.Conv2d(3, 8, 3), EXAMPLE, int8=True, out=tmp_path / "out", check=False)
    assert result.report.pictures == ()
    assert not (tmp_path / "out" / "pictures").exists()
    assert "Pictures" not in (tmp_path / "out" / "report.md").read_text()
