"""Identifiers of a MIL program."""

from __future__ import annotations

import pytest
import torch
from coreml_files import load, specification, written
from parity import check_int8, image, simplified
from torch import nn

from exporter.errors import UsageError
from exporter.ir.graph import Graph
from exporter.lower.coreml import CoreML
from exporter.lower.coreml.names import identifier, is_identifier, names, normalised


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("conv", "conv"), ("a.b/c.2", "a_b_c_2"), ("0.weight", "_0_weight"), ("größe", "gr__e"), ("int8", "_int8"),
     ("", "_")],
)  # fmt: skip
def test_identifier(name, wanted):
    assert identifier(name) == wanted
    assert is_identifier(wanted)


def chain(*named: str) -> Graph:
    """relu after relu, of the given names."""
    graph = Graph("chain")
    value = graph.add_input("x", (1, 2))
    for name in named:
        value = graph.emit("relu", [value], name=name)
    graph.set_outputs({"y": value})
    return graph


def test_names_that_become_one_are_numbered():
    found = names(chain("a.b", "a/b", "a_b", "last"))
    assert [found[n] for n in ("x", "a.b", "a/b", "a_b", "last")] == ["x", "a_b", "a_b_2", "a_b_3", "y"]
    assert found[normalised("x")] == "x_normalised"


def test_an_inner_value_does_not_take_the_name_of_an_output():
    found = names(chain("y", "x", "last"))
    assert [found[n] for n in ("y", "x.2", "last")] == ["y_2", "x_2", "y"]


def test_every_value_has_its_tensor_in_the_file():
    graph = simplified(nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Upsample(scale_factor=2)), image(1, 3, 8, 8))
    with written(graph, "float16") as path:
        function = specification(path).mlProgram.functions["main"]
        block = function.block_specializations[function.opset]
        present = {o.name for operation in block.operations for o in operation.outputs} | {
            i.name for i in function.inputs
        }
    found = names(graph)
    assert {found[v.name] for v in graph.values()} <= present


def test_an_output_that_is_an_input_and_one_that_is_returned_twice():
    def model(a):
        y = a.relu()
        return {"one": y, "two": y, "three": a}

    with written(simplified(model, image(1, 3)), "float16") as path:
        assert [v.name for v in load(path).functions["main"].outputs] == ["one", "two", "three"]


class Named(nn.Module):
    def forward(self, x):
        return {"scores.1": x.relu()}


def test_an_output_that_is_no_identifier_is_refused():
    with pytest.raises(UsageError, match=r"scores\.1") as caught:
        CoreML().unsupported(simplified(Named(), image(1, 3)))
    assert "outputs:" in str(caught.value)


def test_one_name_for_an_input_and_an_output_is_refused():
    graph = Graph("loop")
    graph.set_outputs({"x": graph.emit("relu", [graph.add_input("x", (1, 2))])})
    with pytest.raises(UsageError, match="an input and of an output"):
        CoreML().unsupported(graph)


def test_a_number_without_a_dimension_is_refused():
    with pytest.raises(UsageError, match="without a dimension"):
        CoreML().unsupported(simplified(torch.mean, image(1, 3)))


class Doubled(nn.Module):
    """An input called like a parameter of MIL's `quantize`."""

    def forward(self, scale):
        return torch.relu(scale) * 2


def test_an_int8_input_may_be_called_like_a_parameter():
    """The program holds its codes under another name, but the float input keeps its own."""
    check_int8(Doubled(), image(1, 3))
