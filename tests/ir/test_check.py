"""Every invariant, broken on purpose: the checker names it and prints the node."""

from __future__ import annotations

import re

import pytest
import torch
from parity import image, simplified
from torch import nn

from exporter.ir.check import INVARIANTS, InvariantError, check
from exporter.ir.graph import Graph, Node, Source, Value
from exporter.ir.ops import OPS
from exporter.ir.quant import QuantParams
from exporter.quantize import quantize
from exporter.quantize.calibrate import calibrate

X = image(1, 3, 4, 4)
OTHER = QuantParams((0.25,), 3)


def float_graph() -> Graph:
    """relu(x) and its double, the latter as output."""
    graph = Graph("g")
    x = graph.add_input("x", (1, 3, 4, 4))
    y = graph.emit("relu", [x], source=Source("block", "net.py", 7, "y = relu(x)"))
    z = graph.emit("add", [y, y], source=Source("block", "net.py", 8, "z = y + y"), activation="none")
    graph.set_outputs({"z": z})
    check(graph)
    return graph


def int8_graph() -> Graph:
    """max-pool, convolution, sigmoid in int8."""
    graph = simplified(nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(3, 2, 1), nn.Sigmoid()), X)
    quantize(graph, calibrate(graph, [(X,)], "minmax"), io="int8")
    check(graph)
    return graph


def breaks(invariant: str, what: str, graph: Graph) -> None:
    """`check` raises for `invariant` alone, saying `what`."""
    with pytest.raises(InvariantError) as caught:
        check(graph, after="a pass")
    text = str(caught.value)
    assert text.startswith("after a pass: ")
    assert set(re.findall(r"^(\w+): ", text.split("\n", 1)[1], re.MULTILINE)) == {invariant}
    assert what in text


def test_every_invariant_has_its_test():
    names = {
        name.removeprefix("test_").split("__")[0] for name in globals() if "__" in name and name.startswith("test_")
    }
    assert {invariant.__name__ for invariant in INVARIANTS} <= names


def test_names_are_unique__two_values_of_one_name():
    graph = float_graph()
    graph.nodes[0].output.name = "x"
    breaks("names_are_unique", "two values are called x", graph)


def test_operands_come_first__nodes_out_of_order():
    graph = float_graph()
    graph.nodes.reverse()
    breaks("operands_come_first", "block/relu is read before it is made", graph)


def test_operands_come_first__output_of_no_node():
    graph = float_graph()
    graph.outputs[0] = Value("nowhere", (1,))
    breaks("operands_come_first", "output nowhere is never made", graph)


def test_uses_are_right__a_use_is_missing():
    graph = float_graph()
    graph.inputs[0].uses.clear()
    breaks("uses_are_right", "x is read 1 times, uses say 0", graph)


def test_uses_are_right__an_operand_was_changed_directly():
    graph = float_graph()
    graph.nodes[1].inputs[1] = graph.inputs[0]
    breaks("uses_are_right", "uses say", graph)


def test_uses_are_right__another_producer():
    graph = float_graph()
    graph.nodes[0].output.producer = graph.nodes[1]
    breaks("uses_are_right", "block/relu has another producer", graph)


def test_attributes_are_declared__one_too_many():
    graph = float_graph()
    graph.nodes[0].attrs["negative_slope"] = 0.1
    with pytest.raises(InvariantError, match="attributes_are_declared: attributes"):
        check(graph)


def test_attributes_are_declared__one_missing():
    graph = float_graph()
    del graph.nodes[1].attrs["activation"]
    with pytest.raises(InvariantError, match=r"attributes_are_declared: attributes \[\], declared \['activation'\]"):
        check(graph)


def test_shapes_follow_meaning__another_shape():
    graph = float_graph()
    graph.nodes[1].output.shape = (1, 3, 4, 5)
    breaks("shapes_follow_meaning", "the op gives [1, 3, 4, 4]", graph)


def test_shapes_follow_meaning__another_dtype():
    graph = float_graph()
    graph.nodes[1].output.dtype = torch.float64
    breaks("shapes_follow_meaning", "torch.float64", graph)


def test_shapes_follow_meaning__an_op_that_cannot_run():
    graph = float_graph()
    graph.nodes[0].op, graph.nodes[0].attrs = OPS["reshape"], {"shape": (1, 3, 5, 5)}
    breaks("shapes_follow_meaning", "the op cannot run", graph)


def test_scales_follow_rules__a_same_scale_op_changes_them():
    graph = int8_graph()
    graph.inputs[0].quant = OTHER
    breaks("scales_follow_rules", "a same-scale op changes the parameters", graph)


def test_scales_follow_rules__fixed_parameters_differ():
    graph = int8_graph()
    graph.outputs[0].quant = OTHER
    breaks("scales_follow_rules", "the specification says", graph)


def test_scales_follow_rules__float_and_quantised_operands_are_mixed():
    graph = int8_graph()
    graph.inputs[0].quant = None
    breaks("scales_follow_rules", "float and quantised operands are mixed", graph)


def test_scales_follow_rules__a_bias_of_another_scale():
    graph = int8_graph()
    conv = next(n for n in graph.nodes if n.op.name == "conv2d")
    conv.inputs[2].quant = QuantParams((1.0, 1.0), 0, 0, "int32")
    breaks("scales_follow_rules", "bias is not int32 at s_in * s_w", graph)


def test_scales_follow_rules__a_weight_that_is_not_symmetric():
    graph = int8_graph()
    conv = next(n for n in graph.nodes if n.op.name == "conv2d")
    conv.inputs[1].quant = QuantParams((conv.inputs[1].quant.scale[0],), 5)
    breaks("scales_follow_rules", "bias is not int32", graph)


def test_scales_follow_rules__a_float_weight():
    graph = int8_graph()
    conv = next(n for n in graph.nodes if n.op.name == "conv2d")
    conv.inputs[1].quant = None
    breaks("scales_follow_rules", "weight and bias must be quantised", graph)


def test_scales_on_the_grid__a_scale_between_two_float16_values():
    graph = float_graph()
    graph.inputs[0].quant = graph.nodes[0].output.quant = graph.nodes[1].output.quant = QuantParams((0.1,), 0)
    breaks("scales_on_the_grid", "scale 0.1 is not on the float16 grid", graph)


def test_scales_on_the_grid__a_scale_below_the_smallest():
    graph = float_graph()
    for value in graph.values():
        value.quant = QuantParams((2.0**-15,), 0)
    breaks("scales_on_the_grid", "is not on the float16 grid", graph)


def test_all_offences_are_listed_with_the_node_whole():
    graph = float_graph()
    graph.nodes[1].output.shape = (9,)
    graph.inputs[0].uses.clear()
    with pytest.raises(InvariantError) as caught:
        check(graph)
    text = str(caught.value)
    assert text.startswith("after building: 2 broken invariants")
    assert "block/add [9] = add(block/relu, block/relu) {activation=none}  # block net.py:8" in text


def test_a_node_that_was_built_by_hand_is_checked_too():
    graph = Graph("g")
    x = graph.add_input("x", (2,))
    y = Value("y", (3,))
    node = Node(OPS["relu"], [x], [y], {}, Source())
    x.uses.append(node)
    y.producer = node
    graph.nodes.append(node)
    graph.set_outputs({"y": y})
    breaks("shapes_follow_meaning", "the op gives [2]", graph)
