"""float_tail: what stands behind it stays float in every precision, and what stands before it does not."""

from __future__ import annotations

import torch
from parity import check_float, check_int8, float_tensors, image, run_int8, simplified
from torch import Tensor, nn

from exporter.build.postprocess import float_tail
from exporter.quantize import quantize
from exporter.quantize.calibrate import calibrate

X = image(1, 3, 8, 8)


class Tailed(nn.Module):
    """conv -> relu, and behind the border exp · 2 of it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return float_tail(self.conv(x).relu()).exp() * 2


def test_float_writes_nothing_for_the_border():
    assert check_float(Tailed(), X).ops == ["CONV_2D", "EXP", "MUL"]


def test_int8_dequantises_once_and_computes_on_floats_from_there():
    result = check_int8(Tailed(), X)
    assert result.ops == ["CONV_2D", "DEQUANTIZE", "EXP", "MUL"]
    assert result.islands == {}
    assert not float_tensors(result)


def test_float_and_uint8_inputs_keep_a_float_tail():
    assert check_int8(Tailed(), X, io="float").ops == ["QUANTIZE", "CONV_2D", "DEQUANTIZE", "EXP", "MUL"]
    result = check_int8(Tailed(), X, io="uint8")
    assert [t.dtype for t in result.file.tensors if t.index in result.file.outputs] == ["float32"]


def test_a_body_value_that_joins_the_tail_is_dequantised_too():
    result = check_int8(lambda x: float_tail(x.sigmoid()) * x.tanh(), X)
    assert sorted(result.ops) == ["DEQUANTIZE", "DEQUANTIZE", "LOGISTIC", "MUL", "TANH"]


def test_a_head_may_be_an_output_and_feed_the_tail():
    def model(x: Tensor) -> tuple[Tensor, Tensor]:
        head = x.relu()
        return head, float_tail(head).exp()

    result = check_int8(model, X)
    assert [y.dtype for y in result.outputs] == [torch.int8, torch.float32]


def test_a_tail_has_no_ranges_and_no_place_in_the_plan():
    graph = simplified(Tailed(), X)
    ranges = calibrate(graph, [(X,)], "minmax")
    assert list(ranges) == [graph.inputs[0].name, graph.nodes[0].output.name]
    behind = {v.name for node in graph.tail() for v in node.outputs}
    plan, _ = quantize(graph, ranges)
    assert not behind & plan.keys()


def test_scalars_of_the_tail_stay_behind_the_border():
    """Folding them into the convolution would change the codes of the raw head."""

    def model(x: Tensor) -> Tensor:
        return float_tail(x.tanh()) * 1e6

    graph = simplified(model, X)
    quantize(graph, calibrate(graph, [(X,)], "minmax"), io="int8")
    assert run_int8(graph, X).ops == ["TANH", "DEQUANTIZE", "MUL"]


def test_weights_of_a_tail_stay_float32_in_a_float16_file():
    class Scaled(Tailed):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("factor", image(4, 6, 6))

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * self.factor

    result = check_float(Scaled(), X, precision="float16", least=50)
    assert result.ops == ["DEQUANTIZE", "DEQUANTIZE", "CONV_2D", "EXP", "MUL", "MUL"]
