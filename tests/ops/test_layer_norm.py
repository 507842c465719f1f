"""layer_norm: over any dims, with and without weight and bias, group and instance norms; the int8 form's noise."""

from __future__ import annotations

import pytest
import torch
from parity import check_float, check_int8, image, simplified
from torch import nn


def filled(norm):
    """The layer with a weight and a bias that do something."""
    if norm.weight is not None:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -1, 1)
    return norm


CASES = [
    pytest.param(lambda: nn.LayerNorm(32), (1, 17, 32), id="tokens"),
    pytest.param(lambda: nn.LayerNorm(32), (3, 32), id="rank-2"),
    pytest.param(lambda: nn.LayerNorm(32, elementwise_affine=False), (2, 17, 32), id="no-weight"),
    pytest.param(lambda: nn.LayerNorm((17, 32)), (2, 17, 32), id="two-dims"),
    pytest.param(lambda: nn.LayerNorm((8, 5, 6)), (2, 8, 5, 6), id="a-whole-map"),
    pytest.param(lambda: nn.LayerNorm(32, eps=0.5), (1, 17, 32), id="large-eps"),
    pytest.param(lambda: nn.GroupNorm(1, 8), (1, 8, 6, 7), id="one-group"),
    pytest.param(lambda: nn.GroupNorm(4, 8), (1, 8, 6, 7), id="four-groups"),
    pytest.param(lambda: nn.GroupNorm(1, 64), (1, 64, 16, 16), id="one-group-of-16384"),
    pytest.param(lambda: nn.InstanceNorm2d(8, affine=True), (1, 8, 6, 7), id="instance"),
]


@pytest.mark.parametrize(("norm", "shape"), CASES)
def test_float(norm, shape):
    check_float(filled(norm()), image(*shape, low=-1, high=3))


@pytest.mark.parametrize(("norm", "shape"), CASES)
def test_int8(norm, shape):
    check_int8(filled(norm()), image(*shape, low=-1, high=3))


def channels_first(x, weight, bias, eps=1e-6):
    """LayerNorm over the channels of a map, as ConvNeXt writes it."""
    mean = x.mean(1, keepdim=True)
    variance = (x - mean).pow(2).mean(1, keepdim=True)
    return weight[:, None, None] * ((x - mean) / torch.sqrt(variance + eps)) + bias[:, None, None]


def by_var_mean(x):
    variance, mean = torch.var_mean(x, 1, unbiased=False, keepdim=True)
    return (x - mean) * (variance + 1e-6).rsqrt()


WEIGHT, BIAS = image(24, low=0.5, high=1.5, seed=5), image(24, seed=6)
WRITTEN = {
    "divided by the root": lambda x: channels_first(x, WEIGHT, BIAS),
    "times rsqrt": lambda x: (x - x.mean(1, True)) * torch.rsqrt(x.var(1, unbiased=False, keepdim=True) + 1e-6),
    "over the last dim": lambda x: (x - x.mean(-1, True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt(),
    "power of a half": lambda x: (x - x.mean(1, True)) / ((x - x.mean(1, True)) ** 2).mean(1, True).add(1e-6) ** 0.5,
    "var_mean": by_var_mean,
}


@pytest.mark.parametrize("name", WRITTEN)
def test_written_by_hand_it_is_one_op(name):
    graph = simplified(WRITTEN[name], image(1, 24, 5, 6))
    assert [node.op.name for node in graph.nodes if node.op.name not in ("mul", "add")] == ["layer_norm"]


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("check", [check_float, check_int8])
def test_written_by_hand(check, name):
    assert "TRANSPOSE" not in check(WRITTEN[name], image(1, 24, 5, 6, low=-1, high=3)).ops


TOKENS = torch.randn(1, 197, 192, generator=torch.Generator().manual_seed(0))
SPREAD = torch.exp(torch.randn(1, 197, 1, generator=torch.Generator().manual_seed(1)) / 2)
UNEVEN = {
    # input, SNR that is reached in dB (rounded down)
    "equal tokens": (TOKENS, 35),
    "an offset per channel": (TOKENS + 2 * torch.randn(192, generator=torch.Generator().manual_seed(2)), 35),
    "a mean of five": (TOKENS + 5, 34),
    "token scales of exp(N(0, 0.5))": (TOKENS * SPREAD, 25),
    "two large tokens": (TOKENS * torch.where(torch.arange(197) < 2, 10.0, 1.0)[:, None], 19),
    "three large channels": (TOKENS * torch.where(torch.arange(192) < 3, 20.0, 1.0), 19),
}


@pytest.mark.parametrize("name", UNEVEN)
def test_int8_noise_on_uneven_tokens(name):
    x, least = UNEVEN[name]
    check_int8(nn.LayerNorm(192, eps=1e-6), x, least=least)


@pytest.mark.parametrize("check", [check_float, check_int8])
def test_rms_norm(check):
    check(nn.RMSNorm(32), image(1, 17, 32))
