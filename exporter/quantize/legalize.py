"""What a graph must look like before parameters are assigned: ops that exist in int8, in every format alike."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F

from exporter.ir.graph import Graph, Node, Value
from exporter.ir.ops import Scale
from exporter.ir.quant import QuantParams

LONGEST_MEAN = 8192
"""Elements that XNNPACK's int8 MEAN may add along the innermost stored axis: beyond, its int16 sums overflow."""


def isolate_float(graph: Graph, kept: Mapping[Node, str] | None = None) -> dict[str, str]:
    """Put dequantize before and quantize behind what stays float: `kept`, and every op that has no int8. Returns value
    name -> reason.

        conv -> [dequantize -> conv -> relu -> quantize] -> conv      one pair around neighbours, not around each

    Codes keep the name of the value, so that a plan knows them with and without an island; its floats are NAME/float.
    The model's own float tail gets its dequantize at the border, and is no island.
    """
    tail = graph.tail()
    floats = {n: reason for n in graph.nodes if n not in tail and (reason := (kept or {}).get(n) or float_reason(n))}
    for node in [n for n in graph.nodes if n in tail]:
        _dequantize_operands(graph, node, dict.fromkeys(tail), {})
    opened: dict[Value, Value] = {}
    islands: dict[str, str] = {}
    for node, reason in floats.items():
        _dequantize_operands(graph, node, floats, opened)
        value = node.output
        if value in graph.outputs or any(reader not in floats for reader in value.uses):
            codes = graph.emit(
                "quantize", [value], name=f"{value.name}/float", source=node.source, at=_after(graph, node)
            )
            assert codes.producer is not None
            graph.replace_all_uses(value, codes, but=[codes.producer, *floats])
            codes.name, value.name = value.name, codes.name
        islands[value.name] = reason
    return islands


def _dequantize_operands(graph: Graph, node: Node, floats: Mapping[Node, object], opened: dict[Value, Value]) -> None:
    """Put dequantize before every operand that carries codes, once for each in `opened`; results of `floats` do not."""
    for index, value in enumerate(list(node.inputs)):
        producer = value.producer
        if value.const is None and producer not in floats and not (producer and producer.op.name == "dequantize"):
            if value not in opened:
                opened[value] = graph.emit("dequantize", [value], source=node.source, at=node)
            graph.set_input(node, index, opened[value])


def float_reason(node: Node) -> str:
    """Why a node cannot work on codes; empty when it can."""
    if node.op.name == "div":
        return "int8 division overflows near zero divisors in the runtime"
    if node.op.name == "mean" and node.attrs["dims"] != (2, 3):
        count = node.inputs[0].numel // node.output.numel
        if count > LONGEST_MEAN:
            return f"an int8 mean of {count} elements along the innermost axis overflows in XNNPACK"
    if node.op.name == "resize_nearest":
        for source, target in zip(node.inputs[0].shape[2:], node.attrs["size"], strict=True):
            if _samples_otherwise(source, target):
                return f"an int8 resize from {source} to {target} samples other pixels than PyTorch's float index"
    return ""


def _samples_otherwise(source: int, target: int) -> bool:
    """Whether floor(i * in / out), exact in int8, is not what torch's float32 index rounds to (21 to 69 is one case).

    The float kernel computes as torch does: ATen/native/UpSample.h (nearest_neighbor_compute_source_index).
    """
    exact = torch.arange(target) * source // target
    pixels = torch.arange(source, dtype=torch.float32).reshape(1, 1, 1, -1)
    return not torch.equal(F.interpolate(pixels, (1, target), mode="nearest").flatten().long(), exact)


def separate_constants(graph: Graph) -> None:
    """A constant that serves in several roles (weight, operand in codes, operand of a float island) becomes one value
    for each: their parameters differ, and a plan knows values by name.
    """
    copies: dict[tuple[int, str], Value] = {}
    roles: dict[int, str] = {}
    integer = set(integer_nodes(graph))
    for node in graph.nodes:
        for index, value in enumerate(list(node.inputs)):
            if value.const is None or (role := _role(node, index, node in integer)) == "bias":
                continue
            if role != roles.setdefault(id(value), role):
                key = id(value), role
                if key not in copies:
                    copies[key] = graph.constant(value.name, value.const)
                graph.set_input(node, index, copies[key])


def _role(node: Node, index: int, integer: bool) -> str:
    if not integer:
        return "float"
    return "codes" if node.op.data_inputs is None else ("codes", "weight", "bias")[index]


def integer_nodes(graph: Graph) -> list[Node]:
    """The nodes that work on codes: all but the conversions, what follows a dequantize, and the float tail."""
    floats = graph.tail()
    for node in graph.nodes:
        producers = [v.producer for v in node.inputs if v.producer]
        if node.op.name != "quantize" and any(p in floats or p.op.name == "dequantize" for p in producers):
            floats.add(node)
    return [n for n in graph.nodes if n not in floats and n.op.name not in ("dequantize", "quantize")]


def requantize_pinned(graph: Graph) -> None:
    """Operands that cannot take the parameters of a same-scale op go through a `quantize` of their own.

    The operands of a concat or a maximum share one set of parameters: those that are pinned (fixed scale, or the
    graph's own input) are requantised, unless all are pinned alike. A pad whose value leaves a fixed range is another
    case, and the right operand of a matmul, whose zero point is 0, the last.
    """
    integer = integer_nodes(graph)
    for node in [n for n in integer if n.op.name == "matmul"]:
        pin = _pinned(node.inputs[1])
        if isinstance(pin, QuantParams) and pin.zero_point != 0:
            graph.set_input(node, 1, graph.emit("quantize", node.inputs[1:], source=node.source, at=node))
    for node in [n for n in integer if n.op.name in ("concat", "maximum", "pad")]:
        pins = [_pinned(v) for v in node.inputs]
        if _holds(pins[0], node.attrs["value"]) if node.op.name == "pad" else len(set(pins)) == 1:
            continue
        for index, (value, pin) in enumerate(zip(list(node.inputs), pins, strict=True)):
            if pin is not None:
                graph.set_input(node, index, graph.emit("quantize", [value], source=node.source, at=node))


def multiplies_right(value: Value) -> bool:
    """Whether `value` is the second operand of a matmul, which has zero point 0 (XNNPACK refuses others)."""
    return any(node.op.name == "matmul" and node.inputs[1] is value for node in value.uses)


def _holds(pin: QuantParams | Value | None, fill: float) -> bool:
    """Whether pinned parameters reach a pad's value to within one step, as a sigmoid's reach its own 1.0."""
    if not isinstance(pin, QuantParams) or not math.isfinite(fill):
        return True
    low, high = pin.range
    return low - pin.scale[0] <= fill <= high + pin.scale[0]


def _pinned(value: Value) -> QuantParams | Value | None:
    """What fixes the parameters of `value`, through same-scale ops: the specification, or a graph input."""
    node = value.producer
    if node is None:
        return value if value.const is None else None
    if node.op.scale is Scale.SAME:
        return next((pin for v in node.inputs if (pin := _pinned(v)) is not None), None)
    return node.op.fixed


def float_borders(graph: Graph) -> None:
    """Float inputs and outputs: quantize behind each input, dequantize before each output that carries codes."""
    first = graph.nodes[0] if graph.nodes else None
    for value in graph.inputs:
        codes = graph.emit("quantize", [value], name=f"{value.name}/codes", at=first)
        assert codes.producer is not None
        graph.replace_all_uses(value, codes, but=[codes.producer])
    tail = graph.tail()
    for index, value in enumerate(list(graph.outputs)):
        if value.producer not in tail:
            graph.outputs[index] = graph.emit("dequantize", [value], name=f"{graph.output_names[index]}/float")


def join_float_borders(graph: Graph) -> None:
    """An island at a float input or output (after `float_borders`) works on the floats themselves, not on codes."""
    for value in graph.inputs:
        for node in [n for n in value.uses if n.op.name == "quantize"]:
            for reader in [n for n in node.output.uses if n.op.name == "dequantize" and n.output not in graph.outputs]:
                graph.replace_all_uses(reader.output, value)
    for index, value in enumerate(graph.outputs):
        codes = value.producer.inputs[0] if value.producer and value.producer.op.name == "dequantize" else value
        if codes.producer and codes.producer.op.name == "quantize" and codes.producer.inputs[0].producer:
            graph.outputs[index] = codes.producer.inputs[0]


def _after(graph: Graph, node: Node) -> Node | None:
    index = graph.nodes.index(node) + 1
    return graph.nodes[index] if index < len(graph.nodes) else None
