"""route_channels: shuffles disappear into weights, what is left moves in ranges, and nothing changes."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F
from parity import check_float, check_int8, eager, image, run_float
from rewriting import ops, rewrite
from torch import Tensor, nn

from exporter.simplify.fold_affine import fold_affine
from exporter.simplify.route_channels import route_channels
from exporter.simplify.shuffles import recognise_shuffles

BY = [recognise_shuffles, route_channels]
X = image(1, 32, 6, 5)
SCALE = torch.linspace(0.5, 2, 32).reshape(32, 1, 1)


def shuffle(x: Tensor, groups: int = 2) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


def pointwise(inputs: int = 32, outputs: int = 32) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1)


def depthwise(channels: int = 32, **options) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels, **options)


class Between(nn.Module):
    """A layer of its own, a shuffle, what stands between it and the convolution that absorbs it."""

    def __init__(self, between=None, first=None, last=None) -> None:
        super().__init__()
        self.first, self.last = first or pointwise(), last or pointwise()
        self.layer = between if isinstance(between, nn.Module) else None
        self.between = self.layer or between or (lambda x: x)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(shuffle(self.first(x))))


def test_a_shuffle_between_convolutions_is_in_their_weights():
    assert ops(rewrite(Between(), X, by=BY)) == ["conv2d", "conv2d"]


ABSORBED = {
    "depthwise": depthwise,
    "depthwise with a stride": lambda: depthwise(stride=2),
    "several": lambda: nn.Sequential(depthwise(), nn.ReLU6(), nn.MaxPool2d(2), nn.SiLU(), depthwise(bias=False)),
    "resize": lambda: lambda x: F.interpolate(x, scale_factor=2, mode="nearest"),
    "average pool": lambda: nn.AvgPool2d(2),
    "padding": lambda: nn.ZeroPad2d(1),
    "a factor per channel": lambda: lambda x: x * SCALE,
    "a constant per column": lambda: lambda x: x + torch.linspace(0, 1, 5),
    "a scalar": lambda: lambda x: 3 - x,
    "a gate made of itself": lambda: lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(),
    "another shuffle": lambda: lambda x: shuffle(x.relu(), 4),
    "part of it": lambda: lambda x: torch.cat([x[:, 16:], x[:, :16].tanh()], 1),
}


@pytest.mark.parametrize("name", ABSORBED)
def test_is_absorbed_behind(name):
    graph = rewrite(Between(ABSORBED[name]()), X, by=BY)
    assert "gather_channels" not in ops(graph)


def test_is_absorbed_by_a_linear_layer_behind_a_mean():
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 7))
    for between in (nn.ReLU(), depthwise()):
        assert "gather_channels" not in ops(rewrite(Between(between, last=head), X, by=BY))


class Unit(nn.Module):
    """ShuffleNetV2's unit: the second half through convolutions that take and give any order."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.branch = nn.Sequential(pointwise(half, half), nn.ReLU(), depthwise(half), pointwise(half, half))

    def forward(self, x: Tensor) -> Tensor:
        u, v = x.chunk(2, 1)
        return shuffle(torch.cat((u, self.branch(v)), 1))


class Weighting(Unit):
    """Lite-HRNet's: the second half keeps its order (depthwise convolution, gates), the first is an identity path."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        half = channels // 2
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), pointwise(half, half // 4), nn.ReLU(), pointwise(half // 4, half), nn.Sigmoid()
        )
        self.branch = depthwise(half)

    def forward(self, x: Tensor) -> Tensor:
        u, v = x.chunk(2, 1)
        v = self.branch(v)
        return shuffle(torch.cat((u, v * self.gate(v)), 1))


class Module(nn.Module):
    """Two blocks at each of two resolutions, then sums of every branch with the others (arXiv:2104.06403)."""

    def __init__(self, high: int, low: int) -> None:
        super().__init__()
        self.high = nn.Sequential(Weighting(high), Weighting(high))
        self.low = nn.Sequential(Weighting(low), Weighting(low))
        self.up = pointwise(low, high)
        self.down = nn.Sequential(depthwise(high, stride=2), pointwise(high, low))

    def forward(self, pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        a, b = self.high(pair[0]), self.low(pair[1])
        y = a + a + F.interpolate(self.up(b), scale_factor=2, mode="nearest")
        return F.relu(y), F.relu(self.down(y) + self.down(y) + b)


class LiteHRNet(nn.Module):
    """Modules between convolutions, as in the network."""

    def __init__(self, modules: int, high: int = 40, low: int = 80) -> None:
        super().__init__()
        self.a, self.b = pointwise(4, high), nn.Conv2d(4, low, 3, 2, 1)
        self.modules_ = nn.Sequential(*(Module(high, low) for _ in range(modules)))
        self.last = nn.ModuleList([pointwise(high, 5), pointwise(low, 5)])

    def forward(self, x: Tensor) -> list[Tensor]:
        pair = self.modules_((self.a(x), self.b(x)))
        return [last(y) for last, y in zip(self.last, pair, strict=True)]


@pytest.mark.parametrize("channels", [32, 58, 116])
def test_units_of_shufflenet_need_no_gather(channels):
    """Convolutions on both sides: every shuffle goes, and a channel is copied only on its way into a convolution."""
    model = nn.Sequential(pointwise(32, channels), *(Unit(channels) for _ in range(4)), pointwise(channels, 8))
    graph = rewrite(model, X, by=BY)
    assert "gather_channels" not in ops(graph)


def test_one_module_of_litehrnet_needs_no_gather():
    graph = rewrite(LiteHRNet(1), image(1, 4, 8, 6), by=BY)
    assert "gather_channels" not in ops(graph)


def test_modules_of_litehrnet_gather_once_each_not_twice():
    """Ranges of the identity path halve with each shuffle: one in two comes back into order."""
    model = LiteHRNet(3)
    before = ops(rewrite(model, image(1, 4, 8, 6), by=[recognise_shuffles])).count("gather_channels")
    after = ops(rewrite(model, image(1, 4, 8, 6), by=BY)).count("gather_channels")
    assert (before, after) == (12, 4)


@pytest.mark.parametrize("check", [check_float, check_int8])
@pytest.mark.parametrize("widths", [(40, 80), (30, 60)])
def test_litehrnet_in_tflite_has_no_transpose(check, widths):
    result = check(LiteHRNet(2, *widths), image(1, 4, 8, 6), least=25)
    assert "TRANSPOSE" not in result.ops


MOVES_ONLY = {
    "a shuffle": shuffle,
    "a shuffle behind an op": lambda x: shuffle(x.relu(), 4),
    "halves": lambda x: shuffle(x).chunk(2, 1),
    "shuffled twice": lambda x: shuffle(torch.cat(shuffle(x, 4).chunk(2, 1)[::-1], 1)),
    "as tokens": lambda x: shuffle(x).flatten(2).transpose(1, 2),
    "every third": lambda x: shuffle(x)[:, 1::3].tanh(),
    "the input and its shuffle": lambda x: x - shuffle(x, 8),
    "a residual": lambda x: x.relu() + shuffle(x.relu().tanh(), 4),
    "two orders in a sum": lambda x: shuffle(x.tanh()) + shuffle(x.relu(), 4),
    "an order read twice": lambda x: (shuffle(x.tanh()), shuffle(x.tanh()).relu()),
    "blue before red": lambda x: x[:, [2, 1, 0]].relu(),
    "one channel several times": lambda x: shuffle(x[:, [5, 5, 0, 5, 31, 30, 0, 7] * 4].tanh(), 4),
    "torn ranges": lambda x: (shuffle(shuffle(x.relu(), 4).tanh(), 8)[:, :16].relu(), x),
    "joined with a map of one channel": lambda x: shuffle(torch.cat([x, x], 1) * x[:, :1]).relu(),
    "an operand of one channel": lambda x: shuffle(x).relu() * shuffle(x)[:, 3:4],
}


@pytest.mark.parametrize("name", MOVES_ONLY)
def test_what_only_moves_is_equal_to_the_bit(name):
    model = MOVES_ONLY[name]
    graph = rewrite(model, X, by=BY)
    for result, expected in zip(run_float(graph, X), eager(model, X), strict=True):
        assert torch.equal(result, expected)


BARRIERS = {
    "groups": lambda: nn.Conv2d(32, 32, 1, groups=4),
    "a depthwise multiplier": lambda: nn.Conv2d(32, 64, 3, groups=32),
    "softmax": lambda: nn.Softmax(1),
    "mean over channels": lambda: lambda x: x.mean(1, keepdim=True),
}


@pytest.mark.parametrize("name", BARRIERS)
def test_what_needs_the_models_order_gets_it(name):
    layer = BARRIERS[name]()

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer if isinstance(layer, nn.Module) else None
            self.conv = pointwise()

        def forward(self, x):
            y = shuffle(self.conv(x).relu())
            return layer(y), layer(shuffle(x, 4).tanh())

    graph = rewrite(Model(), X, by=BY)
    assert "gather_channels" in ops(graph)


def test_the_users_weights_stay_as_they_are():
    model = Between(depthwise())
    before = [p.clone() for p in model.parameters()]
    rewrite(model, X, by=BY)
    assert all(map(torch.equal, before, model.parameters()))


def test_weights_that_two_calls_share_stay_shared():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.shared = pointwise(), pointwise(), pointwise()

        def forward(self, x):
            return self.shared(shuffle(self.a(x), 4).relu()), self.shared(shuffle(x, 4).relu())

    graph = rewrite(Twice(), X, by=BY)
    weights = [node.inputs[1] for node in graph.nodes if node.op.name == "conv2d"]
    assert len({id(w) for w in weights}) <= 3


def test_declines_graphs_without_a_shuffle():
    def moves(x):
        u, v = x.chunk(2, 1)
        return torch.cat([v.relu(), u], 1)[:, 4:30].tanh()

    assert ops(rewrite(moves, X, by=BY)) == ops(rewrite(moves, X, by=[recognise_shuffles]))


class Anything(nn.Module):
    """A random network over maps of 8 to 48 channels: what it does is drawn once, from the seed."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        draw = random.Random(seed)
        self.layers = nn.ModuleList()
        self.steps = []
        widths = [32]
        for _ in range(draw.randint(8, 20)):
            at = draw.randrange(len(widths))
            c = widths[at]
            kind = draw.choice(
                ["conv", "depthwise", "shuffle", "halves", "cat", "add", "act", "groups", "gate", "unit"]
            )
            twins = [i for i, w in enumerate(widths) if w == c]
            other = draw.choice(twins) if kind in ("add", "gate") else draw.randrange(len(widths))
            groups = draw.choice([g for g in (2, 3, 4) if c % g == 0] or [1])
            out = {"conv": draw.choice([8, 16, 24, 30, 48]), "halves": max(c // 2, 1), "cat": c + widths[other]}.get(
                kind, c
            )
            if out > 96 or (kind == "unit" and c % 2):
                continue
            layer = {
                "conv": lambda c=c, out=out: pointwise(c, out),
                "depthwise": lambda c=c: depthwise(c),
                "groups": lambda c=c, groups=groups: nn.Conv2d(c, c, 1, groups=groups),
                "unit": lambda c=c: draw.choice([Unit, Weighting])(c) if c >= 8 else nn.Identity(),
            }.get(kind, nn.Identity)()
            self.layers.append(layer)
            self.steps.append((kind, at, other, groups, draw.random() < 0.5))
            widths.append(out)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [x]
        for layer, (kind, at, other, groups, first) in zip(self.layers, self.steps, strict=True):
            y = maps[at]
            match kind:
                case "shuffle":
                    y = shuffle(y, groups)
                case "pick":
                    y = y[:, [(5 * i + groups) % y.shape[1] for i in range(y.shape[1])]]
                case "halves":
                    y = y[:, : max(y.shape[1] // 2, 1)] if first else y[:, y.shape[1] - max(y.shape[1] // 2, 1) :]
                case "cat":
                    y = torch.cat([y, maps[other]], 1)
                case "add":
                    y = y + maps[other]
                case "gate":
                    y = y * maps[other].mean((2, 3), keepdim=True).sigmoid()
                case "act":
                    y = y.relu() if first else y.tanh()
                case _:
                    y = layer(y)
            maps.append(y)
        return maps[-3:]


@pytest.mark.parametrize("seed", range(40))
def test_random_networks_compute_the_same(seed):
    torch.manual_seed(seed)
    rewrite(Anything(seed), X, by=[recognise_shuffles, fold_affine, route_channels])
