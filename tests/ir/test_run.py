"""The interpreter: one engine for float, int8, calibration taps and localisation."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from parity import FLOAT_SNR, captured, eager, image, simplified, snr
from torch import nn

from exporter.ir.graph import Graph
from exporter.ir.run import Interpreter, is_fused_silu, step
from exporter.quantize import quantize
from exporter.quantize.calibrate import calibrate

X = image(1, 3, 8, 8)


class Net(nn.Module):
    """A residual block: the input of the block is read twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 4, 1)

    def forward(self, x):
        y = torch.tanh(x)
        return self.last(torch.sigmoid(self.conv(y)) + y)


def chain(length: int) -> Graph:
    """tanh of tanh of …"""
    graph = Graph("chain")
    value = graph.add_input("x", (1, 64, 64, 64))
    for _ in range(length):
        value = graph.emit("tanh", [value])
    graph.set_outputs({"y": value})
    return graph


def test_float_results_are_pytorchs():
    model = Net()
    (result,) = Interpreter(captured(model, X)).run([X])
    assert snr(result, eager(model, X)[0]) > FLOAT_SNR  # channels-last convolutions add in another order


def test_an_interpreter_runs_many_inputs():
    model = Net()
    interpreter = Interpreter(captured(model, X))
    for seed in range(3):
        x = image(1, 3, 8, 8, seed=seed)
        assert snr(interpreter.run([x])[0], eager(model, x)[0]) > FLOAT_SNR


def test_the_tap_sees_inputs_and_every_result_in_order():
    graph, seen = captured(Net(), X), []
    Interpreter(graph).run([X], lambda value, tensor: seen.append((value.name, tuple(tensor.shape))))
    assert [name for name, _ in seen] == ["x", *(n.output.name for n in graph.nodes)]
    assert [shape for _, shape in seen] == [v.shape for v in [*graph.inputs, *(n.output for n in graph.nodes)]]


def test_the_tap_sees_codes_in_an_int8_graph():
    graph = simplified(Net(), X)
    quantize(graph, calibrate(graph, [(X,)], "minmax"), io="int8")
    dtypes = set()
    Interpreter(graph).run([graph.inputs[0].quant.quantize(X)], lambda value, tensor: dtypes.add(tensor.dtype))
    assert dtypes == {torch.int8}


def test_intermediate_tensors_are_freed_after_their_last_reader():
    alive: list[int] = []
    refs: list[weakref.ref] = []

    def tap(value, tensor):
        refs.append(weakref.ref(tensor))
        gc.collect()
        alive.append(sum(ref() is not None for ref in refs[1:]))  # the input is the caller's

    Interpreter(chain(8)).run([torch.zeros(1, 64, 64, 64)], tap)
    assert max(alive) == 2


def test_a_tensor_with_a_late_reader_is_kept_until_then():
    graph = Graph("g")
    x = graph.add_input("x", (1, 4))
    first = graph.emit("tanh", [x])
    second = graph.emit("tanh", [graph.emit("tanh", [first])])
    graph.set_outputs({"y": graph.emit("add", [first, second], activation="none")})
    expected = torch.tanh(image(1, 4)) + torch.tanh(torch.tanh(torch.tanh(image(1, 4))))
    assert torch.equal(Interpreter(graph).run([image(1, 4)])[0], expected)


def test_outputs_that_are_read_within_survive():
    graph = Graph("g")
    x = graph.add_input("x", (1, 4))
    y = graph.emit("relu", [x])
    graph.set_outputs({"a": y, "b": graph.emit("tanh", [y]), "c": x, "d": y})
    a, b, c, d = Interpreter(graph).run([image(1, 4)])
    assert torch.equal(a, d)
    assert torch.equal(b, a.tanh())
    assert torch.equal(c, image(1, 4))


def test_results_that_nobody_reads_do_no_harm():
    graph = Graph("g")
    x = graph.add_input("x", (1, 4))
    graph.emit("tanh", [x])
    graph.set_outputs({"y": graph.emit("relu", [x])})
    assert torch.equal(Interpreter(graph).run([image(1, 4)])[0], image(1, 4).relu())


def test_a_wrong_input_shape_is_refused():
    with pytest.raises(ValueError, match=r"input x is \[1, 3, 8, 8\], got \[1, 3, 9, 8\]"):
        Interpreter(captured(Net(), X)).run([image(1, 3, 9, 8)])


def test_a_wrong_number_of_inputs_is_refused():
    with pytest.raises(ValueError, match=r"shorter|longer"):
        Interpreter(captured(Net(), X)).run([X, X])


def test_the_input_is_not_changed():
    model, x = Net(), X.clone()
    Interpreter(captured(model, x)).run([x])
    assert torch.equal(x, X)


def test_step_runs_one_node():
    graph = captured(Net(), X)
    (y,) = eager(torch.tanh, X)
    (result,) = step(graph.nodes[0], [X])
    assert torch.equal(result, y)


# --- the delegate's fusion of sigmoid and mul -------------------------------------------------------------------------
FUSED = {
    "silu": (nn.functional.silu, [True]),
    "x * sigmoid(x)": (lambda x: x * x.sigmoid(), [True]),
    "a gate of another tensor": (lambda x: x * x.tanh().sigmoid(), [False]),
    "relu behind it": (lambda x: torch.relu(x * x.sigmoid()), [False]),
}


@pytest.mark.parametrize("name", FUSED)
def test_which_products_are_fused(name):
    model, expected = FUSED[name]
    graph = simplified(model, X)
    quantize(graph, calibrate(graph, [(X,)], "minmax"), io="int8")
    assert [is_fused_silu(n) for n in graph.nodes if n.op.name == "mul"] == expected


def test_float_products_are_not_fused():
    graph = simplified(lambda x: x * x.sigmoid(), X)
    assert not any(map(is_fused_silu, graph.nodes))
