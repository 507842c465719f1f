"""From ranges to parameters: zero exact, ranges covered, biases fit, same-scale values share."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from parity import check_int8, image, simplified
from torch import nn

from exporter.errors import AccuracyError, DataError
from exporter.ir.graph import Graph
from exporter.quantize import quantize
from exporter.quantize.assign import BIAS_LIMIT, activation_params, constant_params, make_plan, weight_params
from exporter.quantize.calibrate import calibrate

X = image(1, 3, 8, 8)


def quantized(model, *inputs) -> Graph:
    """The int8 graph, calibrated by min-max on `inputs`."""
    graph = simplified(model, *inputs)
    quantize(graph, calibrate(graph, [inputs], "minmax"), io="int8")
    return graph


def on_grid(scale: float) -> bool:
    return float(np.float16(scale)) == scale and scale >= 2.0**-14


# --- activations ------------------------------------------------------------------------------------------------------
RANGES = [
    (-1.0, 1.0), (0.0, 1.0), (-1.0, 0.0), (0.0, 6.0), (-0.278, 3.7), (-1e-3, 1e5), (3.0, 7.0), (-9.0, -2.0),
    (-1e-6, 1e-6), (0.0, 0.0), (-1e7, 1e3), (-127.5, 127.5),
]  # fmt: skip


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_activation_ranges_are_covered_and_zero_is_exact(low, high):
    params = activation_params(low, high)
    (scale,) = params.scale
    assert on_grid(scale)
    bottom, top = params.range
    half = scale / 2
    assert bottom <= min(low, 0) + half
    assert top >= max(high, 0) - half
    assert params.dequantize(params.quantize(torch.zeros(1))).item() == 0.0


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_the_ends_of_a_range_do_not_saturate(low, high):
    """Each end comes back within half a step, or within one where the zero point's rounding moved the range."""
    params = activation_params(low, high)
    ends = torch.tensor([min(low, 0.0), max(high, 0.0)])
    assert (params.dequantize(params.quantize(ends)) - ends).abs().max() <= params.scale[0]


def test_a_positive_range_starts_at_the_lowest_code():
    assert activation_params(0.0, 6.0).zero_point == -128
    assert activation_params(2.0, 6.0).zero_point == -128


def test_a_negative_range_ends_at_the_highest_code():
    assert activation_params(-6.0, 0.0).zero_point == 127


def test_activations_beyond_float16_scales_are_refused():
    with pytest.raises(AccuracyError, match="too wide for int8") as caught:
        quantized(nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)), X * 1e8)
    assert "65504" in caught.value.why


# --- weights ----------------------------------------------------------------------------------------------------------
def test_weights_are_symmetric_per_output_channel():
    weight = torch.randn(4, 3, 3, 3) * torch.tensor([1e-3, 1.0, 50.0, 0.2]).reshape(4, 1, 1, 1)
    params = weight_params(weight, torch.zeros(4), 0.05)
    assert (params.axis, params.zero_point, len(params.scale)) == (0, 0, 4)
    assert all(map(on_grid, params.scale))
    codes = params.quantize(weight).int()
    assert (codes.abs().flatten(1).amax(1) <= 127).all()
    assert (codes.abs().flatten(1).amax(1)[1:] >= 126).all()


def test_weight_codes_never_reach_minus_128():
    conv = nn.Conv2d(3, 4, 3)
    with torch.no_grad():
        conv.weight.copy_(-conv.weight.abs())
    node = next(n for n in quantized(conv, X).nodes if n.op.name == "conv2d")
    assert int(node.inputs[1].const.min()) == -127


@pytest.mark.parametrize("bias", [1e-3, 1.0, 1e3, 1e6])
def test_the_bias_fits_int32(bias):
    weight, input_scale = torch.full((2, 1, 1, 1), 1e-5), 2.0**-14
    params = weight_params(weight, torch.tensor([bias, -bias]), input_scale)
    for scale in params.scale:
        assert bias / (input_scale * scale) <= BIAS_LIMIT


def test_a_channel_of_zeros_has_the_smallest_scale():
    assert weight_params(torch.zeros(1, 3, 1, 1), torch.zeros(1), 0.1).scale == (2.0**-14,)


def test_a_shared_weight_fits_the_bias_of_every_use():
    """Two inputs a thousand times apart: the finer one decides how wide the weight's scale must be."""

    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)
            nn.init.constant_(self.conv.weight, 1e-4)
            nn.init.constant_(self.conv.bias, 50.0)

        def forward(self, fine, coarse):
            return self.conv(fine), self.conv(coarse)

    graph = quantized(Shared(), X * 0.01, X * 100)
    for node in graph.nodes:
        assert node.inputs[2].const.abs().max() <= BIAS_LIMIT
        assert torch.allclose(node.inputs[2].quant.dequantize(node.inputs[2].const), torch.tensor(50.0))


def test_biases_are_int32_at_the_product_of_the_scales():
    node = next(n for n in quantized(nn.Conv2d(3, 4, 3), X).nodes if n.op.name == "conv2d")
    x, weight, bias = (v.quant for v in node.inputs)
    assert bias.dtype == "int32"
    assert bias.scale == tuple(x.scale[0] * s for s in weight.scale)
    assert all(float(np.float32(s)) == s for s in bias.scale)


# --- constants --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("number", [0.5, -0.5, 1 / 3, -3.0, 1e-2, 0.1, 255.0, 1 / 255, -1000.1, 3e4])
def test_a_number_keeps_its_precision(number):
    """A pair (code, scale) comes within 1e-4 of any number, where code 127 alone would leave 5e-4."""
    constant = torch.tensor(number)
    params = constant_params(constant)
    assert on_grid(params.scale[0])
    assert abs(params.dequantize(params.quantize(constant)).item() - number) <= 1e-4 * abs(number)


def test_a_number_below_the_smallest_scale_is_the_nearest_multiple():
    params = constant_params(torch.tensor(1e-3))
    assert params.scale == (2.0**-14,)
    assert params.quantize(torch.tensor(1e-3)).item() == 16


def test_zero_is_zero():
    params = constant_params(torch.tensor(0.0))
    assert params.quantize(torch.tensor(0.0)).item() == params.zero_point


def test_a_vector_gets_the_parameters_of_its_range():
    constant = torch.tensor([-1.0, 0.0, 3.0])
    assert constant_params(constant) == activation_params(-1.0, 3.0)


# --- groups -----------------------------------------------------------------------------------------------------------
class Branches(nn.Module):
    """Two convolutions, one of them pooled, padded and sliced, in one concat."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)

    def forward(self, x):
        y = F.pad(F.max_pool2d(self.b(x), 3, 1, 1), (1, 0, 0, 1))[:, :, 1:, 1:]
        return torch.cat([self.a(x), y], 1).flatten(1)


def test_values_that_same_scale_ops_connect_share_parameters():
    graph = quantized(Branches(), X)
    assert len({v.quant for n in graph.nodes for v in n.outputs}) == 1


def test_a_group_covers_every_range_in_it():
    graph = simplified(Branches(), X)
    ranges = calibrate(graph, [(X,)], "minmax")
    quantize(graph, ranges, io="int8")
    convolutions = [ranges[n.output.name] for n in graph.nodes if n.op.name == "conv2d"]
    low, high = min(low for low, _ in convolutions), max(high for _, high in convolutions)
    params = graph.outputs[0].quant
    assert params == activation_params(low, high)


def test_values_of_their_own_keep_their_own_parameters():
    graph = quantized(lambda x: (x * 10).tanh() * 3, X)
    assert len({v.quant for v in [*graph.inputs, *(n.output for n in graph.nodes)]}) == 4


def test_the_value_of_a_pad_belongs_to_the_range():
    graph = quantized(lambda x: F.pad(x * 2, (1, 1), value=9.0), X)
    assert graph.outputs[0].quant.range[1] >= 9.0 - graph.outputs[0].quant.scale[0]


def test_a_constant_in_a_concat_shares_its_parameters():
    constant = torch.full((1, 1, 8, 8), 5.0)
    graph = quantized(lambda x: torch.cat([x * 2, constant], 1), X)
    concat = graph.nodes[-1]
    assert {v.quant for v in concat.inputs} == {concat.output.quant}
    assert concat.output.quant.range[1] >= 5.0 - concat.output.quant.scale[0]


def test_a_range_that_is_missing_is_an_error():
    graph = simplified(torch.relu, X)
    with pytest.raises(DataError, match="no range for"):
        make_plan(graph, {})


# --- outputs that are nearly constant ---------------------------------------------------------------------------------
def test_an_output_much_finer_than_its_operands_is_coarsened():
    """Else the runtime's requantisation factor would reach 256, which XNNPACK refuses."""

    class Nearly(nn.Module):
        def forward(self, x):
            return x - x * 0.9999999

    x = image(1, 3, 8, 8, low=-500, high=500)
    check_int8(Nearly(), x, least=-100)
