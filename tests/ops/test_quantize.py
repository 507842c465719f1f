"""quantize: float to codes at the graph's border, codes to other codes in front of a concat."""

from __future__ import annotations

import pytest
import torch
from parity import check_int8, image, run_int8, simplified

from exporter.quantize import quantize

BORDERS = [
    pytest.param(image(1, 3, 5, 7), id="symmetric"),
    pytest.param(image(1, 3, 5, 7, low=0, high=255), id="pixels"),
    pytest.param(image(1, 3, 5, 7, low=-9, high=-4), id="negative"),
    pytest.param(image(1, 3, 5, 7, low=-0.002, high=0.002), id="below-the-smallest-scale"),
    pytest.param(image(4, 9, low=-3e4, high=5e4), id="rank-2-wide"),
]


def relu_graph(low: float, high: float, *shape: int):
    """relu of a float input that was calibrated to [low, high]."""
    graph = simplified(torch.relu, torch.zeros(shape))
    quantize(graph, {graph.inputs[0].name: (low, high), graph.nodes[0].output.name: (low, high)}, io="float")
    return graph


@pytest.mark.parametrize("x", BORDERS)
def test_float_input(x):
    assert check_int8(torch.relu, x, io="float", least=20).ops[0] == "QUANTIZE"


def test_ties_round_to_even():
    halves = torch.arange(-20, 20).reshape(1, -1) * 0.5
    graph = relu_graph(-63.75, 63.75, *halves.shape)
    assert graph.nodes[0].output.quant.scale == (0.5,)
    run_int8(graph, halves / 2)


def test_values_beyond_the_range_saturate():
    x = torch.tensor([[-1e9, -5.0, -1.0, 0.0, 0.99, 5.0, 1e9]])
    assert (run_int8(relu_graph(-1.0, 1.0, *x.shape), x).outputs[0] <= 1.01).all()


@pytest.mark.parametrize("factor", [1.0, 1.7, 4.0, 15.0])
def test_codes_to_wider_codes(factor):
    """A graph input keeps its own parameters, and is requantised where it joins a wider range."""
    result = check_int8(lambda a, b: torch.cat([a, b], 1), image(1, 3, 5, 7), image(1, 3, 5, 7, seed=2) * factor)
    assert result.ops == ["QUANTIZE", "QUANTIZE", "CONCATENATION"]
