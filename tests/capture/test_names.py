"""Inputs are called what forward() calls them, outputs what the returned structure calls them."""

from __future__ import annotations

import pytest
import torch
from parity import Function, captured, check_float, image, lower, run_float, simplified
from torch import nn

from exporter.capture import capture
from exporter.errors import UnsupportedError, UsageError
from exporter.lower.onnx import ONNX

X = image(1, 3, 4, 4)


class Returning(nn.Module):
    """relu(x) and tanh(x), in the structure that `pack` makes."""

    def __init__(self, pack):
        super().__init__()
        self.pack = pack

    def forward(self, x):
        return self.pack(torch.relu(x), torch.tanh(x))


STRUCTURES = [
    pytest.param(lambda a, b: a, ["output"], id="single"),
    pytest.param(lambda a, b: (a, b), ["output_0", "output_1"], id="tuple"),
    pytest.param(lambda a, b: [a, b], ["output_0", "output_1"], id="list"),
    pytest.param(lambda a, b: (a,), ["output_0"], id="tuple-of-one"),
    pytest.param(lambda a, b: {"boxes": a, "scores": b}, ["boxes", "scores"], id="dict"),
    pytest.param(lambda a, b: {"scores": a, "boxes": b}, ["scores", "boxes"], id="dict-in-its-own-order"),
    pytest.param(lambda a, b: {"boxes": [a, b]}, ["boxes_0", "boxes_1"], id="list-in-a-dict"),
    pytest.param(lambda a, b: {"p3": {"cls": a}, "p4": {"cls": b}}, ["p3_cls", "p4_cls"], id="dict-in-a-dict"),
    pytest.param(lambda a, b: ((a,), {"b": b}), ["output_0_0", "output_1_b"], id="dict-in-a-tuple"),
    pytest.param(lambda a, b: (a, None, b), ["output_0", "output_2"], id="with-none"),
]


@pytest.mark.parametrize(("pack", "names"), STRUCTURES)
def test_outputs(pack, names):
    result = check_float(Returning(pack), X)
    assert result.graph.output_names == names
    assert [name for name, _ in result.file.signatures[0].outputs] == names


def test_inputs_are_the_parameters_of_forward():
    class Two(nn.Module):
        def forward(self, image, mask):
            return image * mask

    result = check_float(Two(), X, image(1, 1, 4, 4))
    assert [v.name for v in result.graph.inputs] == ["image", "mask"]
    assert [name for name, _ in result.file.signatures[0].inputs] == ["image", "mask"]


def test_names_can_be_given():
    graph = capture(Returning(lambda a, b: (a, b)), [X], name="net", input_names=["pixels"], output_names=["a", "b"])
    assert ([v.name for v in graph.inputs], graph.output_names, graph.name) == (["pixels"], ["a", "b"], "net")


def test_too_few_output_names_are_refused():
    with pytest.raises(UsageError, match="1 output names for 2 outputs"):
        capture(Returning(lambda a, b: (a, b)), [X], output_names=["a"])


def test_two_outputs_of_one_name_are_refused():
    with pytest.raises(UsageError, match="output names"):
        capture(Returning(lambda a, b: (a, b)), [X], output_names=["a", "a"])


def test_too_few_input_names_are_refused():
    with pytest.raises(UsageError, match="1 input names for 2 inputs"):
        capture(Function(lambda a, b: a + b), [X, X], input_names=["a"])


def test_in_tflite_an_output_may_be_called_like_the_input():
    graph = simplified(Returning(lambda a, b: {"x": a}), X)
    assert torch.equal(lower(graph, [X]).outputs[0], torch.relu(X))


def test_in_onnx_an_output_called_like_the_input_is_refused():
    with pytest.raises(UsageError, match="x is the name of an input and of an output"):
        ONNX().unsupported(captured(Returning(lambda a, b: {"x": a}), X))


def test_an_input_keeps_its_name_beside_a_buffer_of_that_name():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("x", torch.rand(1, 3, 1, 1))

        def forward(self, x):
            return self.x * x

    result = check_float(Scaled(), X)
    assert [v.name for v in result.graph.inputs] == ["x"]
    assert [name for name, _ in result.file.signatures[0].inputs] == ["x"]


def test_one_tensor_given_twice_is_two_inputs():
    graph = captured(lambda a, b: torch.relu(a) - b, X, X)
    assert torch.equal(run_float(graph, X, X + 1)[0], torch.relu(X) - (X + 1))
    unread = captured(lambda a, b: torch.relu(a), X, X)
    assert torch.equal(run_float(unread, X, X + 1)[0], torch.relu(X))


def test_an_empty_output_name_is_refused():
    with pytest.raises(UsageError, match="an output name is empty"):
        capture(Returning(lambda a, b: a), [X], output_names=[""])


def test_a_model_without_outputs_is_refused():
    with pytest.raises(UsageError, match="returns no tensor"):
        captured(lambda x: None, X)


def test_an_unused_input_stays():
    result = check_float(lambda a, b: torch.relu(a), X, X)
    assert len(result.graph.inputs) == len(result.file.inputs) == 2


def test_integer_inputs_are_refused():
    with pytest.raises(UsageError, match=r"input 0 is torch.int64, not float32"):
        captured(lambda x: x + 1, torch.arange(4))


def test_a_constant_output_is_refused():
    """A file whose output never changes is a mistake in forward(), such as returning the anchors."""
    with pytest.raises(UnsupportedError, match="output_1 does not depend on the input"):
        captured(lambda x: (torch.relu(x), torch.ones(3)), X)


def test_values_carry_unique_names():
    names = [v.name for v in captured(lambda x: torch.relu(x) + torch.relu(x * 2), X).values()]
    assert len(names) == len(set(names))


def test_keys_that_join_to_one_name_are_refused():
    with pytest.raises(UsageError, match="output names must differ: a_b"):
        captured(Returning(lambda a, b: {"a": {"b": a}, "a_b": b}), X)
