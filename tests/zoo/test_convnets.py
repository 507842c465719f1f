"""Today's convolutional networks: float against PyTorch, int8 against the interpreter, all within the delegate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dense
import mobilenets
import numpy as np
import pytest
import residual
import torch
from parity import Exported, check_float, check_int8
from torch import Tensor, nn

from exporter.build.checkpoints import refit_batchnorm
from exporter.build.layers import initialise
from exporter.verify.runtimes.litert import LiteRT
from exporter.verify.runtimes.litert_profile import NoProfile, profile

pytestmark = pytest.mark.slow
MOST_OUTSIDE = 0.01
"""Share of the time that ops outside the XNNPACK delegate may take."""

MODELS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "mobilenet_v2": (mobilenets.mobilenet_v2, 128),
    "mobilenet_v3": (mobilenets.mobilenet_v3, 128),
    "mobilenet_v4": (mobilenets.mobilenet_v4, 128),
    "efficientnet_b0": (mobilenets.efficientnet_b0, 128),
    "ghostnet": (mobilenets.ghostnet, 128),
    "resnet": (residual.resnet, 96),
    "resnet_d": (residual.resnet_d, 96),
    "regnet": (residual.regnet, 128),
    "unet": (dense.unet, 64),
    "unet_bilinear": (dense.unet_bilinear, 64),
    "super_resolution": (dense.SuperResolution, 48),
    "yolo": (dense.YOLO, 128),
}


def build(name: str) -> tuple[nn.Module, Tensor]:
    """A model with seeded weights that neither amplify nor lose a signal, and a picture of smooth noise."""
    make, size = MODELS[name]
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(5, 3, size // 8, size // 8, generator=generator)
    pictures = nn.functional.interpolate(coarse, (size, size), mode="bilinear") * 2 - 1
    model = make()
    initialise(model)
    refit_batchnorm(model, [pictures[1:]])
    return model, pictures[:1]


def share_outside(content: bytes, folder: Path) -> dict[str, float]:
    """Share of the time of each operator outside the delegate."""
    path = folder / "model.tflite"
    path.write_bytes(content)
    zeros = [np.zeros(info.shape, info.dtype) for info in LiteRT(path).inputs]
    measured = profile(path, zeros, runs=10)
    if isinstance(measured, NoProfile):
        pytest.skip(measured.reason)
    return measured.by_name(delegated=False)


@pytest.mark.parametrize(("check", "least"), [(check_float, 100), (check_int8, 20)])
@pytest.mark.parametrize("name", MODELS)
def test_model(name: str, check: Callable[..., Exported], least: float, tmp_path: Path) -> None:
    exported = check(*build(name), least=least)
    assert exported.islands == {}
    assert "TRANSPOSE" not in exported.ops
    shares = share_outside(exported.content, tmp_path)
    assert sum(shares.values()) <= MOST_OUTSIDE, shares
