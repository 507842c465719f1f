"""Localisation: faults injected on purpose come first, own errors add up to the output error, gains are as foretold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest
import torch
from parity import image, simplified
from small_detector import SIZE
from small_detector import make as small_detector
from torch import Tensor, nn

from exporter.build import build_model
from exporter.build.postprocess import Decoded, Detections
from exporter.ir.graph import Graph
from exporter.ir.quant import fp16_grid
from exporter.quantize import quantize
from exporter.quantize.assign import Plan
from exporter.quantize.calibrate import calibrate
from exporter.quantize.localization import Localization
from exporter.quantize.sensitivity import localize, steps

FEEDS = [(image(1, 3, 24, 24, seed=seed),) for seed in range(4)]


class Residual(nn.Module):
    """Squeeze and excitation, SiLU, a depthwise convolution, and a sum around them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise, self.act = nn.Conv2d(width, width, 3, padding=1, groups=width), nn.SiLU()
        self.gate, self.project = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.depthwise(x))
        return x + self.project(y * self.gate(y.mean((2, 3), keepdim=True)).sigmoid())


class Chain(nn.Module):
    """Convolution, BatchNorm, ReLU, `depth` times."""

    def __init__(self, depth: int = 5, width: int = 12) -> None:
        super().__init__()
        pairs = pairwise([3, *[width] * depth])
        self.layers = nn.Sequential(
            *(nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU()) for a, b in pairs)
        )
        self.head = nn.Conv2d(width, 6, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.layers(image))


class Pyramid(nn.Module):
    """Two heads at two resolutions that share a stem, joined by concat and resize."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 16, 3, 2, 1)
        self.blocks = nn.Sequential(Residual(16), Residual(16))
        self.join, self.fine, self.coarse = nn.Conv2d(32, 16, 1), nn.Conv2d(16, 4, 1), nn.Conv2d(16, 8, 3, padding=1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        fine = nn.functional.relu6(self.stem(image))
        coarse = self.blocks(self.down(fine))
        up = nn.functional.interpolate(coarse, scale_factor=2.0)
        return self.fine(self.join(torch.cat([fine, up], 1)).relu()), self.coarse(coarse)


def made(model: type[nn.Module], seed: int = 0) -> nn.Module:
    """A model through which signals pass at an even size, as in a trained one."""
    torch.manual_seed(seed)
    module = model().train()
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.BatchNorm2d):
            part.momentum = None  # the mean over what it sees
    with torch.no_grad():
        module(torch.cat([x for (x,) in FEEDS]))
    return module.eval()


def planned(
    module: nn.Module, method: str = "minmax", feeds: Sequence[tuple[Tensor, ...]] = FEEDS
) -> tuple[Graph, Plan]:
    """The float graph and the plan of its int8 twin."""
    graph = simplified(module, *feeds[0])
    plan, _ = quantize(graph.clone(), calibrate(graph, feeds, method))
    return graph, plan


def located(graph: Graph, plan: Plan, keep_float: Sequence[str] = (), **options: int) -> Localization:
    int8 = graph.clone()
    quantize(int8, None, plan, keep_float=keep_float)
    return localize(graph, int8, FEEDS[:2], keep_float=keep_float, **options)


def with_scale(plan: Plan, name: str, factor: float) -> Plan:
    """The parameters of `name`, and of what shares them through same-scale ops, `factor` times as coarse."""
    old = plan[name]
    scale = tuple(fp16_grid(s * factor) for s in old.scale)
    shared = [n for n, params in plan.items() if params == old] if old.axis is None else [name]
    return {**plan, **{n: replace(old, scale=scale) for n in shared}}


MODELS = {"chain": Chain, "pyramid": Pyramid}
FAULTS = {
    "chain": [f"layers.{i}.0" for i in range(1, 5)],
    "pyramid": ["down", "blocks.0.project", "blocks.1.depthwise", "join"],
}


# --- faults -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("factor", [4.0, 0.25])
@pytest.mark.parametrize(("name", "layer"), [(name, layer) for name, layers in FAULTS.items() for layer in layers])
def test_a_wrong_activation_scale_is_ranked_first(name, layer, factor):
    graph, plan = planned(made(MODELS[name]))
    (value,) = (n.output.name for n in graph.nodes if n.source.module == layer and n.op.name == "conv2d")
    first = located(graph, with_scale(plan, value, factor)).layers[0]
    assert (first.value, first.source.module) == (value, layer)
    assert first.clipped > 0.005 if factor < 1 else first.codes <= 70


@pytest.mark.parametrize(
    ("name", "layer"),
    [(name, layer) for name, layers in FAULTS.items() for layer in layers if not layer.endswith("depthwise")],
)
def test_a_wrong_weight_scale_is_ranked_first(name, layer):
    graph, plan = planned(made(MODELS[name]))
    (node,) = (n for n in graph.nodes if n.source.module == layer and n.op.name == "conv2d")
    first = located(graph, with_scale(plan, node.inputs[1].name, 4.0)).layers[0]
    assert first.source.module == layer
    assert first.weights_effect > 0.8 * first.effect


@pytest.mark.parametrize("method", ["minmax", "mse"])
@pytest.mark.parametrize("at", range(4))
def test_a_channel_scaled_up_and_down_again_is_named(method, at):
    module = made(Chain)
    before = [module(*feed) for feed in FEEDS]
    with torch.no_grad():
        norm, reader = module.layers[at][1], module.layers[at + 1][0]
        norm.weight[3] *= 64
        norm.bias[3] *= 64
        reader.weight[:, 3] /= 64
    torch.testing.assert_close([module(*feed) for feed in FEEDS], before)
    graph, plan = planned(module, method)
    first = located(graph, plan).layers[0]
    assert first.source.module == f"layers.{at}.0"
    assert first.spread > 16 or first.clipping > 0.5


# --- what adds up -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["minmax", "mse"])
@pytest.mark.parametrize("name", MODELS)
def test_own_errors_account_for_the_output_error(name, method):
    found = located(*planned(made(MODELS[name]), method), probes=16)
    assert abs(found.accounted) < 1
    assert set(found.order) == {layer.value for layer in found.layers}


@pytest.mark.parametrize("factor", [4.0, 0.25])
def test_they_do_with_a_fault_too(factor):
    graph, plan = planned(made(Pyramid))
    (value,) = (n.output.name for n in graph.nodes if n.source.module == "down" and n.op.name == "conv2d")
    assert abs(located(graph, with_scale(plan, value, factor)).accounted) < 3


LARGE = [(image(1, 3, 64, 64, seed=seed),) for seed in range(4)]


@cache
def whole(name: str) -> tuple[Graph, Plan]:
    """A network of ours at 64 x 64: its float graph and its plan."""
    torch.manual_seed(0)
    module = build_model(name, 64).train()
    with torch.no_grad():
        module(torch.cat([x for (x,) in LARGE]))
    return planned(module.eval(), "mse", LARGE)


def located_whole(name: str, plan: Plan) -> Localization:
    int8 = whole(name)[0].clone()
    quantize(int8, None, plan)
    return localize(whole(name)[0], int8, LARGE[:2], probes=8)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fasternet_t0", "cspresnet50"])
def test_own_errors_of_a_whole_network_account_for_its_error(name):
    assert abs(located_whole(name, whole(name)[1]).accounted) < 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layer", "of", "factor"),
    [
        ("stages.0.blocks.0.mlp.0", "activation", 0.25),
        ("stages.1.reduction", "activation", 0.25),
        ("stages.1.reduction", "weight", 4.0),
        ("stages.3.reduction", "activation", 4.0),
        ("stages.4.blocks.3.mlp.3", "activation", 0.25),
        ("stages.4.blocks.5.mlp.0", "weight", 4.0),
        ("avgpool_pre_head.1", "activation", 4.0),
    ],
)
def test_a_fault_in_a_whole_network_is_ranked_first(layer, of, factor):
    """Codes four times as coarse in a layer of little effect are no damage, and are not ranked as such."""
    graph, plan = whole("fasternet_t0")
    (node,) = (n for n in graph.nodes if n.source.module == layer and n.op.name == "conv2d")
    value = node.output if of == "activation" else node.inputs[1]
    found = located_whole("fasternet_t0", with_scale(plan, value.name, factor))
    assert found.layers[0].source.module == layer
    assert abs(found.accounted) < 3


def test_estimates_are_near_measurements():
    graph, plan = planned(made(Pyramid))
    estimated = {r.value: r for r in located(graph, plan, probes=32, measured=0).layers}
    measured = [r for r in located(graph, plan, probes=32, measured=8).layers if r.measured]
    assert len(measured) == 8
    assert not any(r.measured for r in estimated.values())
    assert sum(estimated[r.value].effect for r in measured) == pytest.approx(sum(r.effect for r in measured), rel=0.25)


def test_two_runs_rank_alike():
    graph, plan = planned(made(Chain))
    assert located(graph, plan) == located(graph, plan)


def test_progress_counts_to_the_end():
    graph, plan = planned(made(Chain))
    int8, seen = graph.clone(), []
    quantize(int8, None, plan)
    localize(graph, int8, FEEDS[:2], probes=3, progress=seen.append)
    assert seen == list(range(1, steps(2, probes=3) + 1))


# --- what is inherited, and what is not -------------------------------------------------------------------------------
def test_a_layer_behind_a_fault_inherits_it():
    graph, plan = planned(made(Chain))
    (value,) = (n.output.name for n in graph.nodes if n.source.module == "layers.1.0")
    sound = {r.source.module: r for r in located(graph, plan).layers}
    faulty = {r.source.module: r for r in located(graph, with_scale(plan, value, 8.0)).layers}
    assert faulty["layers.1.0"].own_snr < sound["layers.1.0"].own_snr - 12
    assert faulty["layers.2.0"].own_snr > sound["layers.2.0"].own_snr - 1
    assert faulty["layers.2.0"].inherited_snr < sound["layers.2.0"].inherited_snr - 6


# --- the gain of islands ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("factor", [8.0, 0.25])
def test_a_region_in_float_gains_what_was_foretold(factor):
    graph, plan = planned(made(Pyramid))
    (value,) = (n.output.name for n in graph.nodes if n.source.module == "down" and n.op.name == "conv2d")
    spoiled = with_scale(plan, value, factor)
    found = located(graph, spoiled)
    region = found.region(value)
    assert value in region
    assert len(region) > 1  # its range is to blame: those that read it stay float too
    kept = located(graph, spoiled, sorted(region))
    assert kept.output_snr > found.output_snr + 6
    assert kept.output_snr == pytest.approx(found.expected_snr(region), abs=1.5)


def test_of_coarse_weights_the_layer_alone_is_kept():
    graph, plan = planned(made(Pyramid))
    (node,) = (n for n in graph.nodes if n.source.module == "join" and n.op.name == "conv2d")
    spoiled = with_scale(plan, node.inputs[1].name, 8.0)
    found = located(graph, spoiled)
    assert found.region(node.output.name) == {node.output.name}
    assert located(graph, spoiled, [node.output.name]).output_snr == pytest.approx(
        found.expected_snr({node.output.name}), abs=1.5
    )


@pytest.mark.parametrize("io", ["float", "int8", "uint8"])
def test_every_kind_of_border(io):
    graph, plan = planned(made(Pyramid))
    int8 = graph.clone()
    quantize(int8, None, plan, io=io)
    found = localize(graph, int8, FEEDS[:1])
    assert abs(found.accounted) < 2
    assert set(found.snr) == set(graph.output_names)


@pytest.mark.parametrize("ending", [Decoded, Detections])
def test_up_to_the_heads_of_a_float_tail(ending):
    feeds = [(image(1, 3, SIZE, SIZE, seed=seed),) for seed in range(2)]
    graph, plan = planned(ending(small_detector()), feeds=feeds)
    int8 = graph.clone()
    quantize(int8, None, plan)
    found = localize(graph, int8, feeds)
    assert [name.split("/")[0] for name in found.snr] == ["detector.class_head", "detector.box_head"]
    assert {layer.op for layer in found.layers} == {"quantize", "conv2d"}
    assert abs(found.accounted) < 1


def test_what_became_several_ops_is_one_layer():
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.act = nn.LayerNorm(16), nn.Hardswish()

        def forward(self, x: Tensor) -> Tensor:
            y = self.norm(self.act(x.flatten(2).transpose(1, 2)))
            return nn.functional.scaled_dot_product_attention(y, y, y)

    feeds = [(image(1, 16, 4, 4, low=-3, high=3, seed=seed),) for seed in range(2)]
    graph, plan = planned(Tokens().eval(), feeds=feeds)
    int8 = graph.clone()
    quantize(int8, None, plan)
    found = localize(graph, int8, feeds)
    assert sorted(layer.op for layer in found.layers if layer.effect > 0) == [
        "hard_swish", "layer_norm", "matmul", "matmul", "mul", "quantize",
    ]  # fmt: skip
    assert abs(found.accounted) < 3


def test_graphs_that_do_not_belong_together():
    graph, plan = planned(made(Chain))
    int8 = graph.clone()
    quantize(int8, None, plan)
    with pytest.raises(ValueError, match="do not belong together"):
        localize(simplified(made(Pyramid), *FEEDS[0]), int8, FEEDS[:1])
