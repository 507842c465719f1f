"""sqrt, rsqrt, exp, pow, square, abs, norms and standard deviations."""

from __future__ import annotations

import pytest
import torch
from parity import check_float, check_int8, image

POSITIVE = image(1, 3, 5, 7, low=0.1, high=4)
ANY = image(1, 3, 5, 7, low=-2, high=3)

CASES = [
    pytest.param(torch.sqrt, POSITIVE, ["SQRT"], id="sqrt"),
    pytest.param(torch.rsqrt, POSITIVE, ["RSQRT"], id="rsqrt"),
    pytest.param(torch.exp, ANY, ["EXP"], id="exp"),
    pytest.param(torch.square, ANY, ["MUL"], id="square"),
    pytest.param(lambda x: x**2, ANY, ["MUL"], id="power-2"),
    pytest.param(lambda x: x**3, ANY, ["MUL", "MUL"], id="power-3"),
    pytest.param(lambda x: x**0.5, POSITIVE, ["SQRT"], id="power-one-half"),
    pytest.param(lambda x: x**-0.5, POSITIVE, ["RSQRT"], id="power-minus-one-half"),
    pytest.param(torch.abs, ANY, ["LEAKY_RELU"], id="abs"),
]


@pytest.mark.parametrize(("model", "x", "ops"), CASES)
def test_float(model, x, ops):
    assert check_float(model, x).ops == ops


@pytest.mark.parametrize(("model", "x", "ops"), CASES)
def test_int8(model, x, ops):
    assert check_int8(model, x, least=28).ops == ops


@pytest.mark.parametrize("model", [torch.sqrt, torch.rsqrt])
@pytest.mark.parametrize("high", [0.02, 0.3, 1.0, 77.0, 3000.0])
def test_int8_of_every_code(model, high):
    """All 256 codes of the input, at scales of every size."""
    check_int8(model, torch.linspace(high / 255, high, 255).reshape(1, 255), least=15)


@pytest.mark.parametrize("low", [-9.0, -1.0, 0.0])
@pytest.mark.parametrize("high", [0.5, 3.0])
def test_int8_exp_of_every_code(low, high):
    check_int8(torch.exp, torch.linspace(low, high, 256).reshape(1, 256))


REDUCTIONS = {
    "variance": lambda x: x.var(-1),
    "biased variance": lambda x: x.var(-1, unbiased=False, keepdim=True),
    "variance of everything": lambda x: x.var(),
    "standard deviation": lambda x: x.std(-1),
    "norm": lambda x: x.norm(dim=-1),
    "var_mean": lambda x: torch.var_mean(x, -1),
}


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("check", [check_float, check_int8])
def test_reductions(check, name):
    check(REDUCTIONS[name], image(4, 6, 16, low=-2, high=3), least=110 if check is check_float else 25)
