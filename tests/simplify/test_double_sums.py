"""double_sums: a value added to itself is multiplied by two."""

from __future__ import annotations

import torch
from parity import check_float, check_int8, image, simplified
from rewriting import ops, rewrite
from torch import nn

from exporter.simplify.double_sums import double_sums
from exporter.simplify.duplicates import merge_duplicates

X = image(1, 3, 6, 6)


class Doubled(nn.Module):
    """Lite-HRNet's fusion: a branch evaluated twice on the same map, and added."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))

    def forward(self, x):
        return self.branch(x) + x[:, :1] + self.branch(x)

    def twice(self, x):
        return self.branch(x) + self.branch(x)


def test_a_value_added_to_itself():
    assert ops(rewrite(lambda x: x.tanh() + x.tanh(), X, by=[merge_duplicates, double_sums])) == ["tanh", "mul"]


def test_the_factor_folds_into_the_convolution():
    class Twice(Doubled):
        def forward(self, x):
            return self.twice(x)

    for check in (check_float, check_int8):
        assert check(Twice().eval(), X).nodes == ["conv2d"]


def test_declines_a_sum_of_two_values():
    assert ops(rewrite(lambda x: x.tanh() + x.relu(), X, by=[merge_duplicates, double_sums])) == ["tanh", "relu", "add"]


def test_what_is_read_elsewhere_keeps_the_factor_outside():
    class Model(Doubled):
        def forward(self, x):
            y = self.branch(x)
            return torch.relu(y + y), y

    graph = simplified(Model().eval(), X)
    assert sorted(ops(graph)) == ["conv2d", "mul"]
