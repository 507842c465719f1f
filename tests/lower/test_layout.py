"""Storage order is chosen per value: an ordinary network has no TRANSPOSE, a reshape in the middle the right ones."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from parity import check_float, check_int8, image, simplified
from torch import nn

from exporter.lower.tflite.layout import Layouts, layout_of

X = image(1, 3, 16, 16)
both = pytest.mark.parametrize("check", [check_float, check_int8])


class Block(nn.Module):
    """EfficientNet's block: expand, depthwise, squeeze and excite, project, residual."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(channels, 16, 1, bias=False), nn.BatchNorm2d(16), nn.SiLU())
        self.depthwise = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16), nn.SiLU())
        self.reduce, self.excite = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)
        self.project = nn.Conv2d(16, channels, 1)

    def forward(self, x):
        y = self.depthwise(self.expand(x))
        gate = self.excite(F.silu(self.reduce(y.mean((2, 3), keepdim=True)))).sigmoid()
        return self.project(y * gate) + x


class SmallDet(nn.Module):
    """A stem, blocks, one BiFPN node over two levels, a shared head with a norm per level."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.deep = nn.Conv2d(3, 8, 3, 2, 1), Block(), Block()
        self.weights = nn.Parameter(torch.tensor([1.0, 0.5]))
        self.head = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(2))
        self.classes = nn.Conv2d(8, 6, 1)

    def forward(self, x):
        p3 = self.block(self.stem(x))
        p4 = self.deep(F.max_pool2d(p3, 3, 2, 1))
        weights = F.relu(self.weights)
        total = weights.sum() + 1e-4
        up = F.interpolate(p4, scale_factor=2, mode="nearest")
        fused = torch.stack([p3 * weights[0] / total, up * weights[1] / total], -1).sum(-1)
        levels = [fused, p4]
        return [self.classes(F.silu(n(self.head(y)))) for n, y in zip(self.norms, levels, strict=True)]


@both
def test_a_detector_has_no_transpose(check):
    result = check(SmallDet(), X, **({"least": 20} if check is check_int8 else {}))
    assert "TRANSPOSE" not in result.ops
    assert result.ops.count("RESHAPE") == 2  # both of the nearest resize, which joins rows with themselves


class Middle(nn.Module):
    """Two convolutions with something of PyTorch's axis order between them."""

    def __init__(self, between, channels: int = 6) -> None:
        super().__init__()
        self.first, self.between, self.last = nn.Conv2d(3, 6, 1), between, nn.Conv2d(channels, 4, 1)

    def forward(self, x):
        return self.last(self.between(self.first(x)))


BETWEEN = [
    pytest.param(lambda y: y.view(1, 3, 16, 32), 3, ["TRANSPOSE", "RESHAPE", "TRANSPOSE"], id="view"),
    pytest.param(lambda y: y.transpose(2, 3), 6, ["TRANSPOSE"], id="transpose"),
    pytest.param(lambda y: y.permute(0, 2, 1, 3), 16, ["TRANSPOSE"], id="channels-and-rows"),
    pytest.param(
        lambda y: y.flatten(2).transpose(1, 2).tanh().transpose(1, 2).reshape(1, 6, 16, 16),
        6,
        ["RESHAPE", "TANH", "RESHAPE"],
        id="tokens-and-back",
    ),
    pytest.param(
        lambda y: y.flatten(2).tanh().reshape(1, 6, 16, 16),
        6,
        ["TRANSPOSE", "RESHAPE", "TANH", "RESHAPE", "TRANSPOSE"],
        id="flat-and-back",
    ),
    pytest.param(
        lambda y: y.mean(1).unsqueeze(1) * y,
        6,
        ["TRANSPOSE", "MEAN", "RESHAPE", "MUL"],
        id="mean-over-channels-dropped",
    ),
    pytest.param(lambda y: y.mean(1, keepdim=True) * y, 6, ["MEAN", "MUL"], id="mean-over-channels-kept"),
    pytest.param(lambda y: y * y.mean((2, 3)).softmax(-1)[:, :, None, None], 6, None, id="attention-over-channels"),
    pytest.param(lambda y: F.softmax(y, 1), 6, ["SOFTMAX"], id="softmax-over-channels"),
    pytest.param(
        lambda y: torch.cat([y[:, 4:], y[:, :4]], 1), 6, ["SLICE", "SLICE", "CONCATENATION"], id="slices-and-concat"
    ),
    pytest.param(lambda y: F.pad(y, (1, 2, 0, 0, 0, 2)), 8, ["PAD"], id="pad-of-channels-and-columns"),
]


@both
@pytest.mark.parametrize(("between", "channels", "ops"), BETWEEN)
def test_what_lies_between_two_convolutions(check, between, channels, ops):
    found = check(Middle(between, channels), X, **({"least": 20} if check is check_int8 else {})).ops
    assert (found[0], found[-1]) == ("CONV_2D", "CONV_2D")
    if ops is not None:
        assert found[1:-1] == ops
    else:
        assert "TRANSPOSE" not in found


@both
def test_a_value_read_in_both_orders_is_transposed_once(check):
    def model(x):
        y = F.max_pool2d(x, 2)
        return y.flatten(1).tanh(), y.flatten(1).sigmoid(), F.max_pool2d(y, 2)

    assert check(model, X).ops.count("TRANSPOSE") == 1


@both
def test_values_that_no_bound_op_touches_keep_pytorchs_order(check):
    """Attention over four heads: rank 4, but no image."""

    def model(x):
        y = x.view(1, 4, 5, 6)
        return (y.tanh() + y).transpose(2, 3).reshape(1, 120)

    assert check(model, image(1, 120)).ops == ["RESHAPE", "TANH", "ADD", "TRANSPOSE", "RESHAPE"]


# --- Layouts ----------------------------------------------------------------------------------------------------------
def test_layouts_of_a_value():
    graph = simplified(nn.Conv2d(3, 4, 1), X)
    layouts, value = Layouts(graph), graph.inputs[0]
    assert layouts.is_nhwc(value)
    assert layouts.shape(value) == (1, 16, 16, 3)
    assert [layouts.dim(value, dim) for dim in range(4)] == [0, 3, 1, 2]
    assert layouts.per_dim(value, (0, 1, 2, 3)) == [0, 2, 3, 1]


def test_layouts_of_other_ranks_are_pytorchs():
    graph = simplified(torch.tanh, image(2, 3, 4))
    layouts, value = Layouts(graph), graph.inputs[0]
    assert not layouts.is_nhwc(value)
    assert (layouts.shape(value), layouts.dim(value, 2)) == ((2, 3, 4), 2)


def test_operands_of_other_ranks_break_a_transparent_op():
    graph = simplified(lambda a, b: a + b, X, image(16, 16))
    assert layout_of(graph.nodes[0]).value == "breaking"
