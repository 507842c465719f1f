"""Cross-layer equalisation: the float function stays to the last bit, and spoiled channels come back."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from exporter.capture import capture
from exporter.errors import DataError
from exporter.ir.graph import Graph
from exporter.ir.run import Interpreter
from exporter.quantize.equalize import equalization, equalize
from exporter.simplify import simplify


class Chain(nn.Module):
    """conv -> ReLU -> depthwise -> conv, with a residual sum and a SiLU."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.second = nn.Conv2d(8, 8, 1)
        self.third = nn.Conv2d(8, 6, 1)
        self.last = nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.first(x))
        y = y + self.second(self.depthwise(y))
        return self.last(nn.functional.silu(self.third(torch.max_pool2d(y, 2))))


class Partial(nn.Module):
    """FasterNet's PConv: a slice convolved, the rest carried along, joined again; then a grouped convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.part = nn.Conv2d(2, 2, 3, padding=1)
        self.grouped = nn.Conv2d(8, 8, 1, groups=2)
        self.end = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        a, b = torch.split(x, [2, 6], 1)
        x = torch.relu(self.grouped(torch.cat([self.part(a), b], 1)))
        return self.end(x.mean((2, 3)))


class Placed(nn.Module):
    """Coordinates joined in front of features, and a linear layer over the columns of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.joined = nn.Conv2d(3, 4, 1), nn.Conv2d(6, 6, 1)
        self.middle, self.end = nn.Conv2d(6, 8, 1), nn.Conv2d(8, 4, 1)
        self.columns = nn.Linear(12, 6)
        self.register_buffer("places", torch.rand(1, 2, 12, 12))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.joined(torch.cat([self.places, self.stem(x)], 1)))
        return self.end(torch.relu(self.middle(torch.relu(self.columns(y)))))


def _graph(module: nn.Module) -> tuple[Graph, list[tuple[Tensor, ...]]]:
    torch.manual_seed(0)
    samples = [(torch.randn(1, 3, 12, 12),) for _ in range(3)]
    graph = capture(module.eval(), samples[0], name="net")
    simplify(graph)
    return graph, samples


def _spoiled() -> nn.Module:
    torch.manual_seed(1)
    module = Partial()
    with torch.no_grad():
        module.grouped.weight[3] *= 64
        module.grouped.bias[3] *= 64
        module.end.weight[:, 3] /= 64
    return module


@pytest.mark.parametrize("make", [Chain, Partial, Placed, _spoiled], ids=["chain", "partial", "placed", "spoiled"])
def test_the_float_function_stays_to_the_last_bit(make: type[nn.Module]) -> None:
    torch.manual_seed(0)
    graph, samples = _graph(make())
    octaves = equalization(graph, samples)
    twin = graph.clone()
    equalize(twin, octaves)
    assert octaves, "nothing was equalised"
    changed = [v.name for v in twin.values() if v.const is not None]
    assert changed != [v.name for v in graph.values() if v.const is not None]
    for sample in samples:
        before, after = (Interpreter(g).run(sample) for g in (graph, twin))
        assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))


def test_a_spoiled_channel_gets_the_range_of_its_neighbours() -> None:
    graph, samples = _graph(_spoiled())
    octaves = equalization(graph, samples)
    (name,) = [n.output.name for n in graph.nodes if n.op.name == "conv2d" and n.attrs["groups"] == 2]
    others = [o for channel, o in enumerate(octaves[name]) if channel != 3]
    assert min(others) - octaves[name][3] >= 4


def test_what_a_silu_reads_keeps_its_scale() -> None:
    graph, samples = _graph(Chain())
    octaves = equalization(graph, samples)
    silu = next(n for n in graph.nodes if n.op.name == "silu")
    assert silu.inputs[0].name not in octaves
    assert silu.output.name not in octaves
    assert not {v.name for v in [*graph.inputs, *graph.outputs]} & octaves.keys()


def test_scales_of_another_model_are_refused() -> None:
    graph, _ = _graph(Chain())
    with pytest.raises(DataError, match="channels of 1 values"):
        equalize(graph, {"elsewhere/conv2d": (1, 0)})
