"""Inputs are called what forward() calls them, outputs what the returned structure calls them."""

from __future__ import annotations

import pytest
import torch
from parity import Function, captured, check_float, check_int8, image
from torch import nn

from exporter.capture import capture
from exporter.errors import UnsupportedError, UsageError

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


@pytest.mark.parametrize("check", [check_float, check_int8])
def test_an_output_may_be_called_like_the_input(check):
    assert check(Returning(lambda a, b: {"x": a}), X).graph.output_names == ["x"]


def test_an_unused_input_stays():
    result = check_float(lambda a, b: torch.relu(a), X, X)
    assert len(result.graph.inputs) == len(result.file.inputs) == 2


def test_integer_inputs_are_refused():
    with pytest.raises(UsageError, match="not a float tensor"):
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
