"""Warnings of an export's calibration: in the report where the data is odd, none on the project's own recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import exporter
from exporter.pipeline import Pipeline
from exporter.quantize.data import default_samples_dir, load_samples
from exporter.quantize.preprocess import Preprocess
from exporter.recipe import load_recipe

SMALL = Preprocess(size=(32, 32))


class Trained(nn.Module):
    """Two layers whose statistics are those of normalised pictures."""

    def __init__(self, pictures: Tensor) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8, momentum=None), nn.Conv2d(8, 4, 1)
        self.train()(pictures)
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(image)).relu())


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return torch.cat([x for (x,) in load_samples(default_samples_dir(), SMALL).feeds()])


def warnings_of(module: nn.Module, arrays: Tensor, folder: Path) -> list[str]:
    np.savez(folder / "calib.npz", image=arrays.numpy())
    done = exporter.export(module, arrays[:1], int8=True, calib=folder / "calib.npz", out=folder / "out")
    assert done.report.verification is not None
    told = done.report.verification.warnings
    page = (folder / "out" / "report.html").read_text()
    assert page.count("warning: ") == len(told)
    return list(told)


def test_pixels_and_repetition_are_told_in_the_report(pictures, tmp_path):
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (SMALL.mean, SMALL.std))
    pixels = ((pictures * std + mean) * 255)[:2].repeat(2, 1, 1, 1)
    told = warnings_of(Trained(pictures), pixels, tmp_path)
    assert [warning for warning in told if "norm (test_guarded.py:" in warning and "un-normalised" in warning]
    assert [warning for warning in told if "2 of 4 calibration samples repeat another" in warning]


def test_fitting_data_gives_no_warning(pictures, tmp_path):
    assert warnings_of(Trained(pictures), pictures, tmp_path) == []


RECIPES: list[Any] = [
    pytest.param("fasternet_t0", (128, 128)),
    pytest.param("efficientdet_d0", (128, 128), marks=pytest.mark.slow),
    pytest.param("litehrnet_18_coco", (128, 96), marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "size"), RECIPES)
def test_the_projects_recipes_calibrate_without_a_warning(name, size):
    run = Pipeline(load_recipe(name, weights="random", preprocess={"size": size}, precision="int8"))
    run.run(stop_after="quantize")
    assert run.warnings == []
