"""gather_channels: whole channels move, no bit of them changes, and no TRANSPOSE is needed."""

from __future__ import annotations

import math

import pytest
import torch
from parity import check_float, check_int8, image
from torch import Tensor, nn


def shuffle(x: Tensor, groups: int) -> Tensor:
    """ShuffleNet's view, transpose, view."""
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


SHUFFLES = [
    pytest.param((1, 8, 4, 5), 2, id="2-groups"),
    pytest.param((1, 12, 5, 7), 3, id="3-groups"),
    pytest.param((1, 16, 3, 3), 4, id="4-groups"),
    pytest.param((1, 30, 7, 5), 2, id="odd-halves"),
    pytest.param((1, 58, 9, 1), 2, id="one-column"),
    pytest.param((1, 6, 1, 1), 3, id="one-pixel"),
    pytest.param((3, 10, 4, 4), 5, id="batch"),
]


@pytest.mark.parametrize(("shape", "groups"), SHUFFLES)
def test_float(shape, groups):
    """Not one bit changes, and XNNPACK takes it as one convolution."""
    result = check_float(lambda x: shuffle(x, groups), image(*shape), least=math.inf)
    assert result.nodes == ["gather_channels"]
    assert result.ops == ["CONV_2D"]


@pytest.mark.parametrize(("shape", "groups"), SHUFFLES)
def test_int8(shape, groups):
    x = image(*shape, low=-1, high=3)
    result = check_int8(lambda x: shuffle(x, groups), x)
    (codes,), (params,) = result.outputs, [v.quant for v in result.graph.outputs]
    assert torch.equal(codes, shuffle(params.quantize(x), groups))


@pytest.mark.parametrize("check", [check_float, check_int8])
def test_the_module(check):
    assert check(nn.ChannelShuffle(3), image(2, 12, 5, 4)).nodes == ["gather_channels"]


@pytest.mark.parametrize("check", [check_float, check_int8])
def test_between_convolutions_of_several_groups(check):
    """ShuffleNet's own place for it."""
    model = nn.Sequential(nn.Conv2d(6, 12, 1, groups=3), nn.ChannelShuffle(3), nn.Conv2d(12, 6, 1, groups=3))
    result = check(model, image(1, 6, 5, 7))
    assert result.ops == ["CONV_2D", "CONV_2D", "CONV_2D"]


LARGE = [
    pytest.param((1, 240, 7, 5), 3, id="3-groups-of-80"),
    pytest.param((2, 160, 6, 3), 4, id="4-groups-of-40"),
    pytest.param((1, 116, 9, 9), 2, id="2-groups-of-58"),
    pytest.param((1, 232, 1, 7), 2, id="2-groups-of-116"),
]


@pytest.mark.parametrize(("shape", "groups"), LARGE)
def test_many_channels_are_shuffled_in_two_steps(shape, groups):
    """Groups exchange runs, and a convolution of few channels shuffles within blocks: nothing changes, no TRANSPOSE."""
    exact = check_float(lambda x: shuffle(x, groups), image(*shape), least=math.inf)
    x = image(*shape, low=-1, high=3)
    result = check_int8(lambda x: shuffle(x, groups), x)
    assert torch.equal(result.outputs[0], shuffle(result.graph.outputs[0].quant.quantize(x), groups))
    for ops in (exact.ops, result.ops):
        assert set(ops) == {"SLICE", "RESHAPE", "CONCATENATION", "CONV_2D"}


@pytest.mark.parametrize("check", [check_float, check_int8])
def test_a_part_of_the_channels_in_any_order(check):
    result = check(lambda x: shuffle(x, 4)[:, 3:11], image(1, 16, 5, 3))
    assert result.nodes == ["gather_channels"]
    assert result.ops == ["CONV_2D"]


def test_all_codes_come_through():
    """Every code at both ends of the range, whatever the zero point."""
    x = torch.linspace(-2, 9, 256).reshape(1, 8, 4, 8)
    result = check_int8(lambda x: shuffle(x, 4), x)
    assert set(result.outputs[0].flatten().tolist()) == set(range(-128, 128))
