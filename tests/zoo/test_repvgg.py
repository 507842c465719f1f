"""RepVGG-A0: three branches a block when trained, one convolution a block in the file."""

from __future__ import annotations

import pytest
import torch
from parity import check_float, check_int8, image
from zoo.repvgg import A0, RepVGG
from zoo.training import trained

PLAIN = {"CONV_2D", "PAD", "MEAN", "FULLY_CONNECTED"}


@pytest.mark.parametrize(("check", "least"), [(check_float, 100), (check_int8, 15)])
def test_one_convolution_a_block(check, least):
    """A0's widths; fewer blocks and a small image, so that it takes a moment."""
    torch.manual_seed(0)
    stages = [(min(depth, 3), width) for depth, width in A0[:4]]
    result = check(trained(RepVGG(stages, classes=10)), image(1, 3, 64, 64), least=least)
    assert set(result.ops) <= PLAIN
    assert result.ops.count("CONV_2D") == sum(depth for depth, _ in stages)
    assert "add" not in result.nodes


@pytest.mark.slow
@pytest.mark.parametrize(("check", "least"), [(check_float, 100), (check_int8, 10)])
def test_a0_at_its_own_size(check, least):
    torch.manual_seed(0)
    result = check(trained(RepVGG()), image(1, 3, 224, 224), least=least)
    assert set(result.ops) <= PLAIN
    assert result.ops.count("CONV_2D") == sum(depth for depth, _ in A0)
