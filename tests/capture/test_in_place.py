"""In-place ops: who reads the tensor later, under any of its names, sees the mutated value (DESIGN.md §3, trap 3)."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from parity import check_float, check_int8, image
from torch import nn


def silu_then_the_input(x):
    y = x * 2
    z = F.silu(y, inplace=True)
    return y + z


def add_then_the_input(x):
    y = x * 2
    y.add_(x)
    return y * 3


def add_on_an_old_name(x):
    a = x * 2
    b = a
    b += x
    b *= x
    return a - b * 0.5


def copy_over(x):
    y = x * 2
    y.copy_(x.sigmoid())
    return y + 1


def slice_assignment(x):
    y = x * 2
    y[:, 1:2] = x[:, 0:1].tanh()
    return y


def slice_of_rows_and_channels(x):
    y = x * 2
    y[:, 1:, 2:4] = x[:, 1:, 0:2]
    return y + x


def view_sees_the_write(x):
    y = x * 2
    v = y.view(1, 3, -1)
    y.add_(1.0)
    return v * 2


def write_through_a_view(x):
    y = x * 2
    y.view(1, -1).relu_()
    return y


def write_through_a_split(x):
    y = x * 2
    a, b = y.split([1, 2], 1)
    a.mul_(3.0)
    return y + b.sum(1, keepdim=True)


def written_twice(x):
    y = x * 2
    y.add_(1.0).relu_().mul_(x)
    return y


def write_to_the_input(x):
    x.mul_(2.0)
    return x + 1


def zero_a_channel(x):
    y = x * 2
    y[:, 0].zero_()
    return y


def fill_a_channel(x):
    y = x * 2
    y[:, 0] = 0.5
    return y


def write_to_what_dropout_returns(x):
    y = x * 2
    return y + F.relu(F.dropout(y, 0.5, training=False), inplace=True)


def write_to_what_feature_dropout_returns(x):
    y = x * 2
    return y + F.relu(F.dropout2d(y, 0.5, training=False), inplace=True)


def write_to_what_alpha_dropout_returns_under_a_view(x):
    y = x * 2
    v = y.view(1, -1)
    F.relu(F.alpha_dropout(y, 0.5, training=False), inplace=True)
    return v + 1


def write_to_what_type_as_returns_under_a_view(x):
    y = x * 2
    v = y.view(1, -1)
    y.type_as(x).relu_()
    return v + 1


def write_to_a_detached_tensor(x):
    y = x * 2
    return y + y.detach().relu_()


def write_to_a_tensor_that_was_contiguous(x):
    y = x * 2
    return y + y.contiguous().relu_()


def write_to_a_conversion_to_the_same_dtype(x):
    y = x * 2
    return y + y.to(torch.float32).relu_()


def write_to_an_alias(x):
    y = x * 2
    return y + torch.ops.aten.alias(y).relu_()


def write_to_a_clone(x):
    y = x * 2
    return y + y.clone().relu_()


def write_to_a_contiguous_copy(x):
    y = x * 2
    return y.permute(0, 2, 3, 1) + y.permute(0, 2, 3, 1).contiguous().relu_()


def dropout_as_an_output_of_a_functionalised_program(x):
    y = x * 2
    y.view(1, -1).relu_()
    return F.dropout(y, 0.5, training=False)


MODELS = [
    silu_then_the_input, add_then_the_input, add_on_an_old_name, copy_over, slice_assignment,
    slice_of_rows_and_channels, view_sees_the_write, write_through_a_view, write_through_a_split, written_twice,
    write_to_the_input, zero_a_channel, fill_a_channel, write_to_what_dropout_returns,
    write_to_what_feature_dropout_returns, write_to_what_alpha_dropout_returns_under_a_view,
    write_to_what_type_as_returns_under_a_view, write_to_a_detached_tensor, write_to_a_tensor_that_was_contiguous,
    write_to_a_conversion_to_the_same_dtype, write_to_an_alias, write_to_a_clone, write_to_a_contiguous_copy,
    dropout_as_an_output_of_a_functionalised_program,
]  # fmt: skip


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.__name__.replace("_", "-"))
@pytest.mark.parametrize("check", [check_float, check_int8])
def test_later_readers_see_the_mutated_value(check, model):
    check(model, image(1, 3, 5, 6))


def test_relu_in_place_in_a_residual_block():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.act = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(inplace=True)

        def forward(self, x):
            y = self.act(x * 1.5)
            y = self.conv(y) + y
            return self.act(y)

    assert check_float(Block(), image(1, 3, 5, 6)).ops == ["MUL", "CONV_2D", "ADD"]


def test_relu_in_place_behind_dropout_changes_the_convolution_beside_it():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.drop, self.act = nn.Conv2d(3, 3, 1), nn.Dropout(), nn.ReLU(inplace=True)

        def forward(self, x):
            y = self.conv(x)
            return y + self.act(self.drop(y))

    check_float(Block().eval(), image(1, 3, 5, 6))
