"""The ordered list: every pass is tested by its name, runs once, is checked, and the list reaches a fixed point."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from parity import captured, image
from torch import nn

import exporter.simplify
from exporter.ir.check import InvariantError
from exporter.ir.graph import Graph
from exporter.ir.text import graph_text
from exporter.simplify import PASSES, simplify


@pytest.mark.parametrize("run", PASSES, ids=lambda run: run.__name__)
def test_every_pass_has_a_test_file_and_a_docstring(run):
    assert run.__doc__
    assert (Path(__file__).parent / f"test_{run.__name__}.py").exists()


def test_a_failing_pass_names_itself_and_those_before_it(monkeypatch):
    def innocent(graph: Graph) -> None:
        pass

    def culprit(graph: Graph) -> None:
        graph.nodes[0].attrs["colour"] = "red"

    monkeypatch.setattr(exporter.simplify, "PASSES", (innocent, innocent, culprit, innocent))
    with pytest.raises(InvariantError) as caught:
        simplify(captured(torch.relu, image(1, 3)))
    text = str(caught.value)
    assert text.startswith("pass culprit (after innocent, innocent):")
    assert "attributes_are_declared" in text
    assert "relu(" in text


def test_a_pass_that_changes_the_shape_of_an_output_names_itself(monkeypatch):
    def flattens(graph: Graph) -> None:
        (output,) = graph.outputs
        graph.set_outputs({"output": graph.emit("reshape", [output], shape=(output.numel,))})

    monkeypatch.setattr(exporter.simplify, "PASSES", (flattens,))
    with pytest.raises(InvariantError, match=r"pass flattens .*had the shapes \[\(1, 3\)\], now \[\(3,\)\]"):
        simplify(captured(torch.relu, image(1, 3)))


def test_simplifying_twice_changes_nothing():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.SiLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3)
    )
    graph = simplify(captured(model.eval(), image(1, 3, 8, 8)))
    before = graph_text(graph)
    assert graph_text(simplify(graph)) == before
