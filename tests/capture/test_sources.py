"""Every node knows the module path, file and line of the user's model that it comes from.

The line is that of the innermost forward(): torch.export records no others.
"""

from __future__ import annotations

import inspect
from pathlib import Path

import torch
from parity import captured, image
from torch import nn


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return torch.sigmoid(self.conv(x))  # the line of the block


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = Block()
        self.stages = nn.Sequential(Block(), Block())

    def forward(self, x):
        return self.stages(self.stem(x)) * 2.0  # the line of the net


def line_of(owner: type, text: str) -> int:
    lines, start = inspect.getsourcelines(owner)
    return start + next(i for i, line in enumerate(lines) if text in line)


def test_module_paths():
    nodes = captured(Net(), image(1, 3, 4, 4)).nodes
    assert [(n.op.name, n.source.module) for n in nodes] == [
        ("conv2d", "stem.conv"),
        ("sigmoid", "stem"),
        ("conv2d", "stages.0.conv"),
        ("sigmoid", "stages.0"),
        ("conv2d", "stages.1.conv"),
        ("sigmoid", "stages.1"),
        ("mul", ""),
    ]


def test_file_and_line_are_the_users():
    """A convolution's line is where the model calls it, not where torch.nn implements it."""
    nodes = captured(Net(), image(1, 3, 4, 4)).nodes
    block, net = line_of(Block, "the line of the block"), line_of(Net, "the line of the net")
    assert {n.source.file for n in nodes} == {Path(__file__).name}
    assert [n.source.line for n in nodes] == [block] * 6 + [net]
    assert nodes[0].source.code.startswith("return torch.sigmoid(self.conv(x))")


def test_a_module_called_twice_keeps_one_path():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return self.conv(self.conv(x))

    assert [n.source.module for n in captured(Twice(), image(1, 3, 4, 4)).nodes] == ["conv", "conv"]


def test_sources_survive_torchs_own_functionalisation():
    """A write through a view is rewritten by torch before it is captured."""

    class Assigning(nn.Module):
        def forward(self, x):
            y = x * 2.0
            y[:, 0] = 0.5
            return y.tanh()

    nodes = captured(Assigning(), image(1, 3, 4, 4)).nodes
    assert {n.source.file for n in nodes} == {Path(__file__).name}
    assert nodes[-1].source.line == line_of(Assigning, "y.tanh()")


def test_source_reads_as_one_place():
    node = captured(Net(), image(1, 3, 4, 4)).nodes[-1]
    line = line_of(Net, "the line of the net")
    assert str(node.source) == (
        f"(top level)  ({Path(__file__).name}:{line}  return self.stages(self.stem(x)) * 2.0  # the line of the net)"
    )
