"""What a graph looks like before parameters are assigned."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from parity import check_int8, image, simplified

from exporter.ir.check import check
from exporter.quantize import quantize
from exporter.quantize.calibrate import calibrate
from exporter.quantize.legalize import isolate_float, requantize_pinned

X = image(1, 3, 8, 8, low=-3, high=3)


def ops(graph) -> list[str]:
    return [node.op.name for node in graph.nodes]


# --- isolate_float ----------------------------------------------------------------------------------------------------
def test_a_division_stands_between_dequantize_and_quantize():
    graph = simplified(lambda x: x.relu() / (x * x + 1), X)
    islands = isolate_float(graph)
    check(graph)
    assert ops(graph) == ["relu", "mul", "add", "dequantize", "dequantize", "div", "quantize"]
    assert list(islands) == [graph.nodes[-2].output.name]


def test_both_operands_of_one_value():
    graph = simplified(lambda x: x.relu() / x.relu(), X + 9)
    isolate_float(graph)
    check(graph)
    assert ops(graph).count("div") == 1


def test_constants_of_an_island_stay_float():
    graph = simplified(lambda x: 2.0 / (x * x + 1), X)
    quantize(graph, calibrate(graph, [(X,)], "minmax"), io="int8")
    (node,) = (n for n in graph.nodes if n.op.name == "div")
    assert node.inputs[0].quant is None
    assert node.inputs[0].const.dtype == torch.float32


def test_islands_next_to_each_other():
    graph = simplified(lambda x: 2.0 / (1.0 / (x * x + 1) + 1.0 / (x * x + 2)), X)
    islands = isolate_float(graph)
    check(graph)
    assert len(islands) == 3


# --- requantize_pinned ------------------------------------------------------------------------------------------------
JOINS = {
    "a sigmoid": (lambda x: torch.cat([x.sigmoid(), x * 2], 1), 1),
    "two sigmoids": (lambda x: torch.cat([x.sigmoid(), (x * 2).sigmoid()], 1), 0),
    "sigmoid and tanh": (lambda x: torch.cat([x.sigmoid(), x.tanh()], 1), 2),
    "a pooled sigmoid": (lambda x: torch.cat([F.max_pool2d(x.sigmoid(), 3, 1, 1), x * 2], 1), 1),
    "the input": (lambda x: torch.cat([x, x * 2], 1), 1),
    "a slice of the input": (lambda x: torch.cat([x[:, :2], x * 2], 1), 1),
    "slices of the input alone": (lambda x: torch.cat([x[:, 1:], x[:, :1]], 1), 0),
    "free operands": (lambda x: torch.cat([x * 3, x * 2], 1), 0),
    "a concat in a concat": (lambda x: torch.cat([torch.cat([x.sigmoid(), x * 2], 1), x * 3], 1), 1),
}


@pytest.mark.parametrize("name", JOINS)
def test_operands_that_cannot_share_are_requantised(name):
    model, count = JOINS[name]
    graph = simplified(model, X)
    requantize_pinned(graph)
    check(graph)
    assert ops(graph).count("quantize") == count


# --- separate_constants -----------------------------------------------------------------------------------------------
def test_a_weight_that_is_also_an_operand_has_parameters_for_each():
    weight = image(3, 3, 1, 1, seed=5) * torch.tensor([0.1, 1.0, 3.0]).reshape(3, 1, 1, 1)
    result = check_int8(lambda x: F.conv2d(x, weight) + (x * weight).mean(0, True), X)
    conv, mul = (next(n for n in result.graph.nodes if n.op.name == name) for name in ("conv2d", "mul"))
    assert conv.inputs[1].quant.axis == 0
    (operand,) = (v for v in mul.inputs if v.const is not None)
    assert operand.quant.axis is None
    assert operand.name != conv.inputs[1].name


def test_a_constant_in_codes_and_in_a_float_island():
    constant = image(1, 3, 1, 1, low=1, high=2)
    result = check_int8(lambda x: x * constant + constant / (x * x + 1), X)
    assert len(result.islands) == 1


# --- borders ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("io", ["float", "uint8"])
def test_a_model_that_returns_its_input(io):
    check_int8(lambda x: x, X, io=io)
