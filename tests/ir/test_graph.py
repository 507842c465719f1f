"""The few verbs that passes use keep operands, uses and producers in step."""

from __future__ import annotations

import pytest
import torch
from parity import captured, image
from torch import nn

from exporter.ir.check import check
from exporter.ir.graph import Graph
from exporter.ir.text import graph_text


def chain() -> Graph:
    """x -> relu -> tanh -> sigmoid."""
    graph = Graph("g")
    value = graph.add_input("x", (1, 4))
    for op in ("relu", "tanh", "sigmoid"):
        value = graph.emit(op, [value])
    graph.set_outputs({"y": value})
    return graph


def ops(graph: Graph) -> list[str]:
    return [node.op.name for node in graph.nodes]


def test_emit_infers_shape_and_dtype():
    graph = Graph("g")
    x = graph.add_input("x", (2, 3, 8, 8))
    y = graph.emit("max_pool2d", [x], kernel=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1))
    assert (y.shape, y.dtype, y.producer.op.name, x.uses) == ((2, 3, 4, 4), torch.float32, "max_pool2d", [y.producer])


def test_emit_places_a_node_ahead_of_another():
    graph = chain()
    graph.emit("relu6", [graph.nodes[0].output], at=graph.nodes[1])
    assert ops(graph) == ["relu", "relu6", "tanh", "sigmoid"]
    check(graph)


def test_names_are_made_unique():
    graph = Graph("g")
    assert [graph.unique("a") for _ in range(3)] == ["a", "a.2", "a.3"]
    assert graph.unique("a.2") == "a.2.2"


def test_replace_all_uses_reaches_operands_and_outputs():
    graph = chain()
    relu, tanh, sigmoid = graph.nodes
    graph.replace_all_uses(sigmoid.output, relu.output)
    graph.replace_all_uses(tanh.output, relu.output)
    assert graph.outputs == [relu.output]
    assert sigmoid.inputs == [relu.output]
    assert tanh.output.uses == []


def test_replace_all_uses_spares_the_nodes_that_are_named():
    graph = chain()
    relu, tanh, _ = graph.nodes
    gate = graph.emit("relu6", [relu.output], at=tanh)
    graph.replace_all_uses(relu.output, gate, but=[gate.producer])
    assert (tanh.inputs, gate.producer.inputs) == ([gate], [relu.output])
    check(graph)


def test_a_node_that_reads_a_value_twice_has_two_uses():
    graph = Graph("g")
    x = graph.add_input("x", (4,))
    y = graph.emit("add", [x, x], activation="none")
    assert x.uses == [y.producer, y.producer]
    assert graph.consumers(x) == [y.producer]
    assert graph.only_consumer(x) is y.producer
    other = graph.add_input("other", (4,))
    graph.replace_all_uses(x, other)
    assert (x.uses, other.uses) == ([], [y.producer, y.producer])


def test_the_only_consumer_of_an_output_is_nobody():
    graph = chain()
    relu, tanh, _ = graph.nodes
    assert graph.only_consumer(relu.output) is tanh
    graph.set_outputs({"y": graph.outputs[0], "r": relu.output})
    assert graph.only_consumer(relu.output) is None


def test_remove_refuses_a_node_that_is_read():
    graph = chain()
    with pytest.raises(ValueError, match="g/relu is still read"):
        graph.remove(graph.nodes[0])
    with pytest.raises(ValueError, match="g/sigmoid is still read"):
        graph.remove(graph.nodes[2])


def test_prune_removes_whole_dead_branches():
    graph = chain()
    graph.emit("tanh", [graph.emit("relu6", [graph.inputs[0]])])
    graph.prune()
    assert ops(graph) == ["relu", "tanh", "sigmoid"]
    assert len(graph.inputs[0].uses) == 1
    check(graph)


def test_prune_keeps_inputs():
    graph = chain()
    graph.add_input("unused", (1,))
    graph.prune()
    assert [v.name for v in graph.inputs] == ["x", "unused"]


def test_a_clone_is_equal_and_independent():
    graph = captured(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), image(1, 3, 6, 6))
    twin = graph.clone()
    assert graph_text(twin) == graph_text(graph)
    check(twin)
    before = graph_text(graph)
    twin.nodes[0].attrs["stride"] = (2, 2)
    twin.emit("relu", [twin.inputs[0]])
    assert graph_text(graph) == before
    check(graph)


def test_a_clone_shares_the_constant_tensors():
    graph = captured(nn.Conv2d(3, 4, 3), image(1, 3, 6, 6))
    assert graph.clone().nodes[0].inputs[1].const is graph.nodes[0].inputs[1].const


def test_data_inputs_leave_weights_and_constants_out():
    conv = captured(nn.Conv2d(3, 4, 3), image(1, 3, 6, 6)).nodes[0]
    assert conv.data_inputs == conv.inputs[:1]
    add = captured(lambda x: x + torch.ones(3, 1, 1), image(1, 3, 6, 6)).nodes[0]
    assert add.data_inputs == add.inputs[:1]
