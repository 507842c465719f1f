"""Warnings of values that keep few codes, because the network joins them with wider ones."""

import torch
from parity import image, simplified
from torch import nn

from exporter.quantize import quantize
from exporter.quantize.calibrate import calibrate
from exporter.quantize.joins import coarse_values


class Joined(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor
        self.conv = nn.Conv2d(6, 4, 1)

    def forward(self, x):
        return self.conv(torch.cat([x.tanh() * 2, x * self.factor], 1))


def warnings_of(factor):
    x = image(1, 3, 5, 7)
    graph = simplified(Joined(factor), x)
    ranges = calibrate(graph, [(x,)], "minmax")
    quantize(graph, ranges)
    return coarse_values(graph, ranges)


def test_a_value_with_few_codes_is_named_and_counted():
    (warning,) = warnings_of(100.0)
    assert warning.startswith("1 of ")
    assert warning.endswith("model/mul only 4: the network joins them with far wider ones")


def test_joins_of_like_ranges_give_no_warning():
    assert warnings_of(3.0) == []
