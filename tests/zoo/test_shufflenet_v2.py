"""ShuffleNetV2 at its own width and size: no shuffle is left in the file."""

from __future__ import annotations

import pytest
import torch
from parity import Exported, check_float, check_int8, image
from torch import nn
from zoo.shufflenet_v2 import ShuffleNetV2
from zoo.training import trained

from exporter.verify.runtimes.litert import LiteRT

MOVES = {"SLICE", "CONCATENATION"}
COMPUTES = {"CONV_2D", "DEPTHWISE_CONV_2D", "PAD", "MAX_POOL_2D", "MEAN", "FULLY_CONNECTED"}


@pytest.fixture(scope="module")
def stage_2() -> nn.Module:
    """1.0x up to its 28x28x116 maps: the stage that moves most."""
    torch.manual_seed(0)
    return trained(ShuffleNetV2("1.0x", depths=(4,), classes=10))


def everything_is_delegated(result: Exported, folder) -> bool:
    (folder / "model.tflite").write_bytes(result.content)
    return LiteRT(folder / "model.tflite").partitions().undelegated == ()


@pytest.mark.slow
def test_float(stage_2, tmp_path):
    result = check_float(stage_2, image(1, 3, 224, 224), least=100)
    assert set(result.ops) == MOVES | COMPUTES
    assert "gather_channels" not in result.nodes
    assert everything_is_delegated(result, tmp_path)


@pytest.mark.slow
def test_int8(stage_2, tmp_path):
    result = check_int8(stage_2, image(1, 3, 224, 224), least=20)
    assert set(result.ops) == MOVES | COMPUTES
    assert everything_is_delegated(result, tmp_path)


@pytest.mark.parametrize("check", [check_float, check_int8])
def test_all_stages_at_a_small_size(check):
    torch.manual_seed(0)
    result = check(trained(ShuffleNetV2("0.5x", classes=10)), image(1, 3, 64, 64), least=15)
    assert not {"TRANSPOSE", "RESHAPE"} & set(result.ops)
    assert "gather_channels" not in result.nodes
