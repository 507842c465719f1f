"""Parameters and buffers become constants: each its own, tied ones once."""

from __future__ import annotations

import pytest
import torch
from parity import captured, check_float, image
from torch import nn


def test_every_parameter_keeps_its_own_values():
    """Tensors of one shape must not be taken for one another; that depended on the heap, hence several captures."""
    for _ in range(12):
        layers = [nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3, padding=1)) for _ in range(8)]
        model = nn.Sequential(*layers)
        stored = {v.name: v.const for v in captured(model, image(1, 3, 2, 2)).values() if v.const is not None}
        wanted = {name: tensor for name, tensor in model.state_dict().items() if not name.endswith("tracked")}
        assert stored.keys() == wanted.keys()
        assert all(torch.equal(stored[name], tensor) for name, tensor in wanted.items())


def test_buffers_keep_their_own_values():
    model = nn.Sequential(*(nn.BatchNorm2d(3) for _ in range(50)))
    for index, layer in enumerate(model):
        layer.running_mean.fill_(index)
        layer.running_var.fill_(1 + index)
    for index, node in enumerate(captured(model, image(1, 3, 2, 2)).nodes):
        _, _, _, mean, var = node.inputs
        assert (float(mean.const[0]), float(var.const[0])) == (index, 1 + index)


def test_tied_weights_are_one_constant():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
            self.second.weight = self.first.weight

        def forward(self, x):
            return self.second(torch.relu(self.first(x)))

    first, _, second = captured(Tied(), image(2, 4)).nodes
    assert first.inputs[1] is second.inputs[1]


def test_constants_are_named_after_the_state_dict():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Linear(4, 2))
    names = {v.name for v in captured(model, image(1, 3, 4, 4)).values() if v.const is not None}
    assert names == {"0.weight", "0.bias", "1.weight", "1.bias"}


def test_tensors_made_in_forward_are_constants():
    class Anchors(nn.Module):
        def forward(self, x):
            return x + torch.arange(4.0) * torch.tensor([2.0])

    (node,) = captured(Anchors(), image(1, 3, 4, 4)).nodes
    assert node.inputs[1].const.tolist() == [0.0, 2.0, 4.0, 6.0]


@pytest.mark.parametrize(
    "constant", [torch.tensor(2), torch.arange(4), torch.tensor(2.0, dtype=torch.float64)], ids=str
)
def test_constants_that_torch_promotes_become_float32(constant):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("constant", constant)

        def forward(self, x):
            return x * self.constant - 1

    assert check_float(Scaled(), image(1, 3, 4, 4)).ops == ["MUL", "SUB"]


def test_views_of_parameters_are_constants():
    class Sliced(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(torch.randn(8, 3, 1, 1))

        def forward(self, x):
            return nn.functional.conv2d(x, self.table[2:6]) + self.table[None, :4, 0, :]

    assert check_float(Sliced(), image(1, 3, 5, 5)).ops[0] == "CONV_2D"


def test_a_module_keeps_its_parameters():
    model = nn.Conv2d(3, 4, 1)
    before = model.weight.clone()
    check_float(nn.Sequential(model, nn.BatchNorm2d(4)).eval(), image(1, 3, 4, 4))
    assert torch.equal(model.weight, before)
    assert model.weight.requires_grad
