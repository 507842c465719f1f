"""plan.json: written, read back, applied to the same bytes; anything else is one clear error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from parity import image, run_int8, simplified
from torch import nn

from exporter.errors import DataError
from exporter.ir.graph import Graph
from exporter.ir.quant import QuantParams
from exporter.quantize import quantize
from exporter.quantize.assign import Plan
from exporter.quantize.calibrate import calibrate
from exporter.quantize.plan import check_plan, read_plan, write_plan

X = image(1, 3, 8, 8)


def model() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3))


def planned() -> tuple[Graph, Plan]:
    """The int8 graph and its plan, calibrated on X."""
    graph = simplified(model(), X)
    plan, _ = quantize(graph, calibrate(graph, [(X,)], "minmax"), io="int8")
    return graph, plan


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "plan.json"


def test_a_plan_survives_the_file(path):
    _, plan = planned()
    write_plan(plan, path, "net")
    assert read_plan(path) == (plan, {})
    assert list(read_plan(path)[0]) == list(plan)


def test_a_plan_applied_again_gives_the_same_bytes(path):
    graph, plan = planned()
    write_plan(plan, path, "net")
    again = simplified(model(), X)
    quantize(again, None, read_plan(path)[0], io="int8")
    assert run_int8(again, X).content == run_int8(graph, X).content


class Replaced(nn.Module):
    """What quantize writes with other ops before it calibrates: a large depthwise kernel, a norm, attention."""

    def __init__(self):
        super().__init__()
        self.depthwise, self.norm = nn.Conv2d(4, 4, 7, padding=3, groups=4), nn.LayerNorm(8)

    def forward(self, x):
        y = self.norm(self.depthwise(x).flatten(2))
        return nn.functional.scaled_dot_product_attention(y, y, y)


def test_a_plan_applied_again_knows_the_values_of_replaced_ops(path):
    x, replaced = image(1, 4, 2, 4, low=-2, high=2), Replaced()
    graph, again = simplified(replaced, x), simplified(replaced, x)
    plan, _ = quantize(graph, calibrate(graph, [(x,)], "minmax"), io="int8")
    write_plan(plan, path, "net")
    quantize(again, None, read_plan(path)[0], io="int8")
    assert run_int8(again, x).content == run_int8(graph, x).content


@pytest.mark.parametrize("io", ["float", "int8", "uint8"])
def test_the_plan_does_not_depend_on_the_io(io):
    graph = simplified(model(), X)
    plan, _ = quantize(graph, calibrate(graph, [(X,)], "minmax"), io=io)
    assert plan == planned()[1]


def test_one_value_a_line(path):
    _, plan = planned()
    write_plan(plan, path, "net")
    lines = path.read_text().splitlines()
    assert sum(line.startswith("  ") for line in lines) == len(plan)
    assert json.loads(path.read_text())["model"] == "net"


def test_every_quantised_value_is_in_the_plan():
    graph, plan = planned()
    names = {v.name for v in graph.values() if v.quant and v.quant.dtype == "int8"}
    assert names == set(plan)


def test_a_plan_is_in_graph_order():
    graph, plan = planned()
    assert list(plan) == [v.name for v in graph.values() if v.name in plan]
    assert list(plan).index("0.weight") == 1


# --- refusals ---------------------------------------------------------------------------------------------------------
def test_the_plan_of_another_model_is_refused():
    graph = simplified(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)), X)
    with pytest.raises(DataError, match="the plan lacks") as caught:
        quantize(graph, None, planned()[1], io="int8")
    assert caught.value.exit_code == 3
    assert any("1" in place for place in caught.value.where)


def test_a_plan_without_a_weight_is_refused():
    plan = planned()[1]
    del plan["0.weight"]
    with pytest.raises(DataError) as caught:
        quantize(simplified(model(), X), None, plan, io="int8")
    assert caught.value.where == ("0.weight",)


def test_a_weight_of_other_channels_is_refused():
    """The same names, another number of output channels."""
    torch.manual_seed(1)
    wider = nn.Sequential(nn.Conv2d(3, 8, 3), nn.SiLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 3))
    with pytest.raises(DataError) as caught:
        quantize(simplified(wider, X), None, planned()[1], io="int8")
    assert "0.weight" in caught.value.where


def test_parameters_of_another_kind_are_refused():
    """A weight's parameters for an activation, and a dtype that no activation has."""
    for wrong in (QuantParams((0.5, 0.5, 0.5), 0, axis=0), QuantParams((0.5,), 0, None, "int16")):
        plan = planned()[1] | {"input": wrong}
        with pytest.raises(DataError) as caught:
            quantize(simplified(model(), X), None, plan, io="int8")
        assert caught.value.where == ("input",)


def test_a_scale_off_the_grid_is_refused():
    graph, plan = planned()
    name = next(iter(plan))
    plan[name] = QuantParams((0.1,), 0)
    with pytest.raises(DataError, match=f"the scale of {name} is not a float16 value") as caught:
        check_plan(plan, graph)
    assert caught.value.try_ == ("use 0.0999755859375 instead of 0.1",)


def test_a_scale_below_the_smallest_is_refused():
    graph, plan = planned()
    name = next(iter(plan))
    plan[name] = QuantParams((2.0**-20,), 0)
    with pytest.raises(DataError, match=name):
        check_plan(plan, graph)


def test_a_good_plan_passes():
    graph, plan = planned()
    check_plan(plan, graph)


def refused(plan: Plan, **edits: QuantParams) -> DataError:
    """The error that the plan with these edits ends in; the names are those of ops (their results) or of weights."""
    with pytest.raises(DataError, match="the plan cannot hold") as caught:
        quantize(simplified(model(), X), None, plan | edits, io="int8")
    return caught.value


def test_a_max_pool_with_parameters_of_its_own_is_refused():
    graph, plan = planned()
    name = next(n.output.name for n in graph.nodes if n.op.name == "max_pool2d")
    assert any(
        name in place and "max_pool2d" in place for place in refused(plan, **{name: QuantParams((0.5,), 3)}).where
    )


def test_a_sigmoid_with_other_parameters_than_the_specification_is_refused():
    graph, plan = planned()
    name = next(n.output.name for n in graph.nodes if n.op.name == "sigmoid")
    (place,) = refused(plan, **{name: QuantParams((0.5,), 3)}).where
    assert place.startswith(f"{name}: the scale of a sigmoid is 0.00390625")


def test_a_scale_too_small_for_its_weights_is_refused():
    _, plan = planned()
    tiny = QuantParams((2.0**-14,) * 4, 0, axis=0)
    assert refused(plan, **{"0.weight": tiny}).where == ("0.weight: its weights exceed 127 times the scale",)


def test_a_scale_too_small_for_its_bias_is_refused():
    def heavy():
        conv = nn.Conv2d(3, 1, 1)
        nn.init.constant_(conv.weight, 1e-4)
        nn.init.constant_(conv.bias, 1e5)
        return conv

    graph = simplified(heavy(), X)
    plan, _ = quantize(graph, calibrate(graph, [(X,)], "minmax"), io="int8")
    with pytest.raises(DataError, match="the plan cannot hold") as caught:
        quantize(simplified(heavy(), X), None, plan | {"weight": QuantParams((2.0**-14,), 0, axis=0)}, io="int8")
    assert "bias exceeds" in caught.value.where[0]


def test_a_weight_without_a_scale_for_each_channel_is_refused():
    with pytest.raises(DataError) as caught:
        quantize(simplified(model(), X), None, planned()[1] | {"0.weight": QuantParams((0.5,), 3)}, io="int8")
    assert caught.value.where == ("0.weight",)


BROKEN = {
    "no JSON": "{",
    "a list": "[]",
    "no values": '{"format": 1}',
    "a value without a scale": '{"format": 1, "values": {"x": {"zero_point": 0, "dtype": "int8"}}}',
    "a scale of zero": '{"format": 1, "values": {"x": {"scale": 0, "zero_point": 0, "dtype": "int8"}}}',
    "another dtype": '{"format": 1, "values": {"x": {"scale": 1, "zero_point": 0, "dtype": "int4"}}}',
    "a scale that is text": '{"format": 1, "values": {"x": {"scale": "a", "zero_point": 0, "dtype": "int8"}}}',
    "another format": '{"format": 9, "values": {}}',
    "no text": "\xff\xfe",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused(path, name):
    path.write_bytes(BROKEN[name].encode("latin-1"))
    with pytest.raises(DataError, match=r"plan\.json"):
        read_plan(path)


def test_a_missing_file_is_refused(path):
    with pytest.raises(DataError, match="cannot read the plan"):
        read_plan(path)
