"""movedim, swapaxes, unflatten, unbind, roll, repeat, expand: other names for transposes, slices and concats."""

from __future__ import annotations

import pytest
import torch
from parity import check_float, check_int8, image

CASES = {
    "movedim": (lambda x: x.movedim(1, -1), (2, 3, 5), ["TRANSPOSE"]),
    "movedim of two": (lambda x: x.movedim((0, 1), (2, 0)), (2, 3, 5), ["TRANSPOSE"]),
    "swapaxes": (lambda x: x.swapaxes(0, 2), (2, 3, 5), ["TRANSPOSE"]),
    "swapdims": (lambda x: x.swapdims(0, 2), (2, 3, 5), ["TRANSPOSE"]),
    "mT": (lambda x: x.mT, (2, 3, 5), ["TRANSPOSE"]),
    "T": (lambda x: x.T, (3, 5), ["TRANSPOSE"]),
    "unflatten": (lambda x: x.unflatten(1, (2, -1)), (2, 6, 5), ["RESHAPE"]),
    "roll": (lambda x: x.roll(2, 1), (2, 6, 5), ["SLICE", "SLICE", "CONCATENATION"]),
    "roll of two dims": (lambda x: x.roll((-1, 7), (1, 2)), (2, 6, 5), ["SLICE", "SLICE", "CONCATENATION"] * 2),
    "roll all around": (lambda x: x.roll(6, 1) + 0.5, (2, 6, 5), ["ADD"]),
    "repeat": (lambda x: x.repeat(1, 3, 1), (2, 3, 5), ["CONCATENATION"]),
    "repeat to a higher rank": (lambda x: x.repeat(2, 1, 1), (3, 5), ["RESHAPE", "CONCATENATION"]),
    "tile": (lambda x: x.tile(2), (2, 3, 5), ["CONCATENATION"]),
    "expand": (lambda x: x.expand(2, 3, -1), (2, 1, 5), ["CONCATENATION"]),
    "expand before an add": (lambda x: x.mean(1, True).expand(-1, 3, -1) + x, (2, 3, 5), ["MEAN", "ADD"]),
    "expand_as before a sub": (lambda x: x - x.mean(2, True).expand_as(x), (2, 3, 5), ["MEAN", "SUB"]),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("check", [check_float, check_int8])
def test_moves(check, name):
    model, shape, ops = CASES[name]
    assert check(model, image(*shape)).ops == ops


@pytest.mark.parametrize("check", [check_float, check_int8])
def test_unbind(check):
    result = check(lambda x: [part + i for i, part in enumerate(x.unbind(1), 1)], image(2, 3, 5))
    assert result.ops.count("SLICE") == 3


@pytest.mark.parametrize("check", [check_float, check_int8])
def test_a_class_token_that_expands_to_the_batch(check):
    token = image(1, 1, 5, seed=3)
    result = check(lambda x: torch.cat([token.expand(x.shape[0], -1, -1), x + 0.5], 1), image(2, 3, 5))
    assert result.ops == ["ADD", "CONCATENATION"]
