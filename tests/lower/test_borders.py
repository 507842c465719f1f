"""Inputs and outputs of the file: their dtypes, and graphs that hand values straight through."""

from __future__ import annotations

import pytest
import torch
from parity import check_float, check_int8, image
from torch import nn

X = image(1, 3, 8, 8, low=-1, high=2)
both = pytest.mark.parametrize("check", [check_float, check_int8])


class Net(nn.Module):
    """A convolution, a residual, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.same, self.fc = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 6, 3, padding=1), nn.Linear(6, 5)

    def forward(self, x):
        y = self.conv(x)
        y = y + nn.functional.silu(self.same(y))
        return {"map": y, "scores": self.fc(y.mean((2, 3))).sigmoid()}


@pytest.mark.parametrize("io", ["float", "int8", "uint8"])
def test_io(io):
    dtype = {"float": "float32"}.get(io, io)
    result = check_int8(Net(), X, io=io, least=25)
    file = result.file
    assert [file.tensors[i].dtype for i in (*file.inputs, *file.outputs)] == [dtype] * 3


def test_uint8_codes_are_int8_codes_shifted():
    torch.manual_seed(1)
    signed = check_int8(Net(), X, io="int8", least=25)
    torch.manual_seed(1)
    unsigned = check_int8(Net(), X, io="uint8", least=25)
    for int8, uint8 in zip(signed.outputs, unsigned.outputs, strict=True):
        assert torch.equal(int8.int() + 128, uint8.int())
    for int8, uint8 in zip(signed.graph.outputs, unsigned.graph.outputs, strict=True):
        assert (int8.quant.scale, int8.quant.zero_point + 128) == (uint8.quant.scale, uint8.quant.zero_point)


@pytest.mark.parametrize("io", ["float", "int8", "uint8"])
def test_io_of_an_input_that_joins_a_concat(io):
    check_int8(lambda x: torch.cat([x, (x * 3).tanh()], 1), X, io=io)


@pytest.mark.parametrize("io", ["float", "int8", "uint8"])
def test_io_around_a_float_island(io):
    check_int8(lambda x: (x + 3) / (x * x + 1), X, io=io)


# --- values that are handed through -----------------------------------------------------------------------------------
@both
def test_an_output_that_others_read(check):
    def model(x):
        y = x * 2
        return y, y.tanh()

    assert check(model, X).ops == ["MUL", "TANH"]


@both
def test_one_value_as_two_outputs(check):
    def model(x):
        y = x.tanh()
        return {"first": y, "second": y}

    result = check(model, X)
    assert result.graph.output_names == ["first", "second"]
    assert torch.equal(*result.outputs)


@both
def test_the_input_as_an_output(check):
    check(lambda x: (x, x.tanh()), X)


@both
def test_the_input_as_the_only_output(check):
    check(lambda x: x, X)


@pytest.mark.parametrize("io", ["float", "int8", "uint8"])
def test_handed_through_values_in_every_io(io):
    def model(x):
        y = x.tanh()
        return x, y, y

    check_int8(model, X, io=io)


@both
def test_an_identity_between_input_and_output(check):
    check(lambda x: x * 1.0 + 0.0, X)


@both
def test_an_output_that_shares_its_tensor_by_a_cancelled_transpose(check):
    check(lambda x: (x.permute(0, 2, 3, 1).reshape(1, 64, 3), x.tanh()), X)


@both
def test_outputs_of_every_rank(check):
    result = check(lambda x: (x.mean(), x.mean((0, 2, 3)), x.mean((2, 3)), x.mean(1), x.tanh(), x[None] * 2), X)
    assert [len(y.shape) for y in result.outputs] == [0, 1, 2, 3, 4, 5]


@both
def test_an_input_of_rank_5(check):
    check(torch.tanh, image(1, 2, 3, 4, 5))
