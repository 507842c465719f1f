"""merge_branches: parallel convolutions and identity paths become one convolution."""

from __future__ import annotations

import pytest
import torch
from parity import image
from rewriting import ops, rewrite
from torch import Tensor, nn

from exporter.simplify.batch_norm import batch_norm_to_affine
from exporter.simplify.fold_affine import fold_affine
from exporter.simplify.merge_branches import merge_branches

BY = [batch_norm_to_affine, fold_affine, merge_branches]
X = image(1, 8, 9, 7)


def norm(channels: int = 8) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(channels)
    for tensor, low in ((layer.running_mean, -0.5), (layer.running_var, 0.5), (layer.weight.data, 0.5)):
        tensor.uniform_(low, low + 1)
    nn.init.uniform_(layer.bias, -0.5, 0.5)
    return layer


def conv(kernel=3, padding=None, outputs=8, **options) -> nn.Sequential:
    padding = (
        (kernel // 2 if isinstance(kernel, int) else tuple(k // 2 for k in kernel)) if padding is None else padding
    )
    return nn.Sequential(nn.Conv2d(8, outputs, kernel, padding=padding, bias=False, **options), norm(outputs))


class Sum(nn.Module):
    """The sum of its branches on one input (made by a ReLU, as in a network)."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        x = x.relu()
        return sum((branch(x) for branch in self.branches[1:]), self.branches[0](x))


ONE = {
    "RepVGG": lambda: Sum(conv(3), conv(1), norm()),
    "RepVGG, identity first": lambda: Sum(norm(), conv(1), conv(3)),
    "RepVGG at stride 2": lambda: Sum(conv(3, stride=2), conv(1, stride=2)),
    "RepVGG in groups": lambda: Sum(conv(3, groups=4), conv(1, groups=4), norm()),
    "MobileOne, depthwise": lambda: Sum(*(conv(3, groups=8) for _ in range(4)), conv(1, groups=8), norm()),
    "MobileOne, pointwise": lambda: Sum(*(conv(1) for _ in range(3)), norm()),
    "ACNet": lambda: Sum(conv(3), conv((3, 1)), conv((1, 3))),
    "large kernels": lambda: Sum(conv(7, groups=8), conv(5, groups=8), conv(3, groups=8), nn.Identity()),
    "other widths": lambda: Sum(conv(3, outputs=12), conv(1, outputs=12)),
    "dilated": lambda: Sum(conv(3, padding=2, dilation=2), conv(1), conv(3, padding=2, dilation=2)),
    "a depthwise residual": lambda: Sum(nn.Identity(), conv(3, groups=8)),
    "a scaled residual": lambda: Sum(conv(3), Scaled(0.5)),
}  # fmt: skip


class Scaled(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


@pytest.mark.parametrize("name", ONE)
def test_one_convolution_is_left(name):
    assert ops(rewrite(ONE[name](), X, by=BY)) == ["relu", "conv2d"]


def test_the_other_terms_of_the_sum_stay():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.other = conv(3), conv(1), conv(3)

        def forward(self, x, y):
            return self.a(x) + self.other(y) + self.b(x) + y

    assert sorted(ops(rewrite(Model(), X, X * 2, by=BY))) == ["add", "add", "conv2d", "conv2d"]


def test_each_sum_of_a_chain_merges():
    model = nn.Sequential(*(Sum(conv(3), conv(1), norm()) for _ in range(3)))
    assert ops(rewrite(model, X, by=BY)) == ["relu", "conv2d"] * 3


class ReadElsewhere(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = conv(3), conv(1)

    def forward(self, x):
        y = self.b(x)
        return self.a(x) + y, y.relu()


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = conv(3), conv(1)

    def forward(self, x):
        return self.a(x) + self.b(x.relu())


DECLINES = {
    "an intermediate that somebody else reads": ReadElsewhere,
    "different inputs": TwoInputs,
    "different groups": lambda: Sum(conv(3), conv(3, groups=4)),
    "different dilations": lambda: Sum(conv(3), conv(3, padding=2, dilation=2)),
    "pixels that the larger kernel does not see": lambda: Sum(conv((3, 1)), conv((1, 3))),
    "an activation between": lambda: Sum(conv(3), nn.Sequential(conv(1), nn.ReLU())),
    "a residual around an ordinary convolution": lambda: Sum(nn.Identity(), conv(3)),
    "a sum that broadcasts": lambda: Sum(conv(3), nn.Sequential(nn.AdaptiveAvgPool2d(1), conv(1))),
}


@pytest.mark.parametrize("name", DECLINES)
def test_declines(name):
    assert "add" in ops(rewrite(DECLINES[name](), X, by=BY))


def test_declines_sums_without_a_convolution():
    assert ops(rewrite(lambda x: x.relu() * 2 + x.relu(), X, by=BY)) == ["relu", "mul", "relu", "add"]


def test_the_users_weights_stay_as_they_are():
    model = Sum(conv(3), conv(1), norm())
    before = [p.clone() for p in model.parameters()]
    rewrite(model, X, by=BY)
    assert all(map(torch.equal, before, model.parameters()))
