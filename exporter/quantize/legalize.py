"""What a graph must look like before parameters are assigned: ops that exist in int8, in every format alike."""

from __future__ import annotations

from exporter.ir.graph import Graph, Node, Value
from exporter.ir.ops import Scale
from exporter.ir.quant import QuantParams

LONGEST_MEAN = 8192
"""Elements that XNNPACK's int8 MEAN may add along the innermost stored axis: beyond, its int16 sums overflow."""


def split_silu(graph: Graph) -> None:
    """`silu(x) -> mul(x, sigmoid(x))`, so that the intermediate has the same parameters in every format.

    The product keeps the value of the silu (its name and its calibrated range). XNNPACK joins the pair again into one
    lookup table.
    """
    for node in [n for n in graph.nodes if n.op.name == "silu"]:
        x, y = node.inputs[0], node.output
        gate = graph.emit("sigmoid", [x], source=node.source, at=node)
        product = graph.emit("mul", [x, gate], source=node.source, at=node, activation="none")
        graph.replace_all_uses(y, product)
        graph.remove(node)
        product.name, y.name = y.name, product.name


def isolate_float(graph: Graph) -> dict[str, str]:
    """Put dequantize before and quantize behind every op that stays float. Returns value name -> reason."""
    islands: dict[str, str] = {}
    for node, reason in [(n, reason) for n in graph.nodes if (reason := float_reason(n))]:
        for index, value in enumerate(list(node.inputs)):
            if value.const is None and not (value.producer and value.producer.op.name == "dequantize"):
                graph.set_input(node, index, graph.emit("dequantize", [value], source=node.source, at=node))
        codes = graph.emit("quantize", [node.output], source=node.source, at=_after(graph, node))
        assert codes.producer is not None
        graph.replace_all_uses(node.output, codes, but=[codes.producer])
        islands[node.output.name] = reason
    return islands


def float_reason(node: Node) -> str:
    """Why a node cannot work on codes; empty when it can."""
    if node.op.name == "div":
        return "int8 division overflows near zero divisors in the runtime"
    if node.op.name == "mean" and node.attrs["dims"] != (2, 3):
        count = node.inputs[0].numel // node.output.numel
        if count > LONGEST_MEAN:
            return f"an int8 mean of {count} elements along the innermost axis overflows in XNNPACK"
    return ""


def requantize_joined(graph: Graph) -> None:
    """A concat's operands share one set of parameters: those that cannot (fixed scale, or the graph's own input) go
    through a `quantize` of their own, unless all operands are pinned alike.
    """
    for node in [n for n in graph.nodes if n.op.name == "concat"]:
        pins = [_pinned(v) for v in node.inputs]
        if len(set(pins)) == 1:
            continue
        for index, (value, pin) in enumerate(zip(list(node.inputs), pins, strict=True)):
            if pin is not None:
                graph.set_input(node, index, graph.emit("quantize", [value], source=node.source, at=node))


def _pinned(value: Value) -> QuantParams | Value | None:
    """What fixes the parameters of `value`, through same-scale ops: the specification, or a graph input."""
    node = value.producer
    if node is None:
        return value if value.const is None else None
    if node.op.scale is Scale.SAME:
        return next((pin for v in node.inputs if (pin := _pinned(v)) is not None), None)
    return node.op.fixed


def float_borders(graph: Graph) -> None:
    """Float inputs and outputs: quantize behind each input, dequantize before each output."""
    first = graph.nodes[0]
    for value in graph.inputs:
        codes = graph.emit("quantize", [value], name=f"{value.name}/codes", at=first)
        assert codes.producer is not None
        graph.replace_all_uses(value, codes, but=[codes.producer])
    for index, value in enumerate(list(graph.outputs)):
        graph.outputs[index] = graph.emit("dequantize", [value], name=f"{graph.output_names[index]}/float")


def _after(graph: Graph, node: Node) -> Node | None:
    index = graph.nodes.index(node) + 1
    return graph.nodes[index] if index < len(graph.nodes) else None
