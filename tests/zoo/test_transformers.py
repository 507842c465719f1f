"""Vision transformers and ConvNeXt: float against PyTorch, int8 against the interpreter, transposes, what is outside.

Realistic widths at small depth. SNR of int8 is that of seeded random weights, calibrated on the picture itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from convnext import ConvNeXt, FirstBlock
from mobilevit import MobileViT
from parity import Exported, check_float, check_int8
from swin import Swin
from torch import Tensor, nn
from vit import Fused, Torch, ViT

from exporter.build.checkpoints import refit_batchnorm
from exporter.verify.runtimes.litert_profile import NoProfile, profile

pytestmark = pytest.mark.slow
MOST_OUTSIDE = 0.01
"""Share of the time that ops outside the XNNPACK delegate and not named below may take."""


@dataclass(frozen=True)
class Case:
    """A model, its size, how many TRANSPOSE it means, the SNR of its int8 file in dB."""

    make: Callable[[], nn.Module]
    size: int
    transposes: int
    int8_snr: float


OUTSIDE = frozenset({"RSQRT", "GELU"})
"""Without an int8 form in XNNPACK. Nanoseconds per element, one thread of an AVX2 machine, LiteRT 2.3: RSQRT 85 (one
element a token or row), GELU 0.6."""

CASES = {
    "vit": Case(lambda: ViT(size=128, depth=1), 128, 4, 25),
    "vit of torch's attention function": Case(lambda: ViT(size=96, depth=1, attention=Fused), 96, 4, 25),
    "vit of torch's own layer": Case(lambda: ViT(size=96, depth=1, attention=Torch, class_token=False), 96, 4, 25),
    "mobilevit": Case(MobileViT, 96, 10, 25),
    "swin": Case(Swin, 64, 18, 25),
    "convnext": Case(lambda: ConvNeXt((64, 128)), 96, 0, 30),
    "convnext, channels first": Case(lambda: ConvNeXt((64, 128), block=FirstBlock), 96, 0, 30),
}


def build(case: Case) -> tuple[nn.Module, Tensor]:
    """The model with seeded weights, and a picture of smooth noise."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(5, 3, case.size // 8, case.size // 8, generator=generator)
    pictures = nn.functional.interpolate(coarse, (case.size, case.size), mode="bilinear") * 2 - 1
    model = case.make()
    refit_batchnorm(model, [pictures[1:]])
    return model, pictures[:1]


@pytest.fixture(scope="module", params=CASES)
def float32(request: pytest.FixtureRequest) -> tuple[Case, Exported]:
    case = CASES[request.param]
    return case, check_float(*build(case), least=100)


@pytest.fixture(scope="module", params=CASES)
def int8(request: pytest.FixtureRequest) -> tuple[Case, Exported]:
    case = CASES[request.param]
    return case, check_int8(*build(case), least=case.int8_snr)


def outside(exported: Exported, folder: Path) -> dict[str, float]:
    """Share of the time of each operator outside the delegate."""
    path = folder / "model.tflite"
    path.write_bytes(exported.content)
    from exporter.verify.runtimes.litert import LiteRT

    zeros = [torch.zeros(info.shape, dtype=getattr(torch, info.dtype)).numpy() for info in LiteRT(path).inputs]
    measured = profile(path, zeros, runs=10)
    if isinstance(measured, NoProfile):
        pytest.skip(measured.reason)
    return measured.by_name(delegated=False)


def test_the_float_file_runs_in_the_delegate_and_transposes_what_the_model_means(
    float32: tuple[Case, Exported], tmp_path: Path
) -> None:
    case, exported = float32
    assert exported.ops.count("TRANSPOSE") == case.transposes
    assert outside(exported, tmp_path) == {}


def test_the_int8_file_names_what_is_outside(int8: tuple[Case, Exported], tmp_path: Path) -> None:
    case, exported = int8
    assert exported.islands == {}
    assert exported.ops.count("TRANSPOSE") == case.transposes
    shares = {op: share for op, share in outside(exported, tmp_path).items() if op not in OUTSIDE}
    assert sum(shares.values()) <= MOST_OUTSIDE, shares
