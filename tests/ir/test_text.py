"""The dump that `--stop-after` prints: complete, and the same on every run."""

from __future__ import annotations

import torch
from parity import simplified
from torch import nn

from exporter.ir.graph import Graph, Source
from exporter.ir.quant import QuantParams
from exporter.ir.text import graph_text, node_text
from exporter.quantize import quantize
from exporter.quantize.calibrate import calibrate


class Tiny(nn.Module):
    """A convolution with a norm, a pool, a scaled residual; weights are set, not drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 2, 3, 2, 1, bias=False), nn.BatchNorm2d(2, eps=0.0)
        nn.init.constant_(self.conv.weight, 0.5)
        self.norm.running_var.fill_(4.0)

    def forward(self, x):
        y = torch.relu(self.norm(self.conv(x)))
        return {"y": y + nn.functional.max_pool2d(x, 2) * 0.25}


X = torch.linspace(-1, 1, 32).reshape(1, 2, 4, 4)

FLOAT = """\
graph model
  input  x [1, 2, 4, 4]
  conv/conv2d.3 [1, 2, 2, 2] = conv2d(x, const[2, 2, 3, 3]:e0c7227d, const[2]:af5570f5) \
{activation=relu dilation=(1,1) groups=1 padding=(1,1,1,1) stride=(2,2)}  # conv test_text.py:26
  model/max_pool2d [1, 2, 2, 2] = max_pool2d(x) {kernel=(2,2) padding=(0,0,0,0) stride=(2,2)}  #  test_text.py:27
  model/mul [1, 2, 2, 2] = mul(model/max_pool2d, 0.25) {activation=none}  #  test_text.py:27
  model/add [1, 2, 2, 2] = add(conv/conv2d.3, model/mul) {activation=none}  #  test_text.py:27
  output y = model/add
"""

INT8 = """\
graph model
  input  x [1, 2, 4, 4] int8<0.00785065, -1>
  conv/conv2d.3 [1, 2, 2, 2] int8<0.00284767, -128> = \
conv2d(x, const[2, 2, 3, 3]:930fb950 int8<2 scales on axis 0, 0>, const[2]:af5570f5 int32<2 scales on axis 0, 0>) \
{activation=relu dilation=(1,1) groups=1 padding=(1,1,1,1) stride=(2,2)}  # conv test_text.py:26
  model/max_pool2d [1, 2, 2, 2] int8<0.00785065, -1> = max_pool2d(x) \
{kernel=(2,2) padding=(0,0,0,0) stride=(2,2)}  #  test_text.py:27
  model/mul [1, 2, 2, 2] int8<0.00164509, -25> = mul(model/max_pool2d, const[]:c3641f85 int8<0.00390625, 0>) \
{activation=none}  #  test_text.py:27
  model/add [1, 2, 2, 2] int8<0.00449371, -90> = add(conv/conv2d.3, model/mul) {activation=none}  #  test_text.py:27
  output y = model/add
"""


def test_float_graph():
    assert graph_text(simplified(Tiny(), X)) == FLOAT


def test_int8_graph():
    graph = simplified(Tiny(), X)
    quantize(graph, calibrate(graph, [(X,)], "minmax"), io="int8")
    assert graph_text(graph) == INT8


def test_the_hash_tells_constants_apart():
    model = Tiny()
    before = graph_text(simplified(model, X))
    with torch.no_grad():
        model.conv.weight[0, 0, 0, 0] += 1e-6
    assert graph_text(simplified(model, X)) != before


def test_a_node_without_source_or_attributes():
    graph = Graph("g")
    y = graph.emit("relu", [graph.add_input("x", (2,))])
    assert node_text(y.producer) == "g/relu [2] = relu(x)"


def test_a_node_with_a_module_and_no_line():
    graph = Graph("g")
    y = graph.emit("relu", [graph.add_input("x", (2,))], source=Source("stem.act"))
    assert node_text(y.producer) == "stem.act/relu [2] = relu(x)  # stem.act"


def test_scalars_are_printed_and_per_channel_parameters_counted():
    graph = Graph("g")
    x = graph.add_input("x", (2, 3))
    y = graph.emit("mul", [x, graph.constant("c", torch.tensor([1 / 3]))], activation="none")
    y.quant = QuantParams((0.5,), 7)
    assert node_text(y.producer) == "g/mul [2, 3] int8<0.5, 7> = mul(x, 0.333333343) {activation=none}"
