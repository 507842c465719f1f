"""CSPPeleeNet with every fusion, and CSPDenseNet, from the module to the files at a size that is quick to run."""

from __future__ import annotations

import pytest
import torch
from parity import check_float, check_int8
from torch import Tensor, nn

from exporter.build import build_model, refit_batchnorm

SIZE = 64
SLOW = ("csppeleenet_fusion_first", "csppeleenet_fusion_last", "cspdensenet")
NAMES = ["csppeleenet", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


def network(name: str) -> tuple[nn.Module, Tensor]:
    """The model, its BatchNorm statistics fitted to noise, and a picture of noise."""
    model, generator = build_model(name, SIZE), torch.Generator().manual_seed(0)
    refit_batchnorm(model, [torch.randn(4, 3, SIZE, SIZE, generator=generator)])
    return model, torch.randn(1, 3, SIZE, SIZE, generator=generator)


@pytest.mark.parametrize("name", NAMES)
def test_float_file_equals_pytorch(name: str) -> None:
    assert "TRANSPOSE" not in check_float(*network(name), least=110).ops


@pytest.mark.parametrize("name", NAMES)
def test_int8_file_is_integer_throughout_and_equals_the_interpreter(name: str) -> None:
    assert not check_int8(*network(name), least=15).islands
