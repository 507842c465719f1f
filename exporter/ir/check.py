"""Invariants of a graph, as a table. They run after every pass; a broken one prints the node whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from exporter.ir.graph import Graph, infer
from exporter.ir.ops import Scale
from exporter.ir.quant import QuantParams, fp16_grid
from exporter.ir.text import node_text

Offence = tuple[str, str]
"""What is wrong, and the text of the node or value."""


class InvariantError(AssertionError):
    """A pass broke the graph: a defect of ours, not of the user's model."""


def check(graph: Graph, after: str = "") -> None:
    """Raise InvariantError with every offence of every invariant. `after` names the pass that ran last."""
    offences = [
        f"{invariant.__name__}: {what}\n    {text}" for invariant in INVARIANTS for what, text in invariant(graph)
    ]
    if offences:
        raise InvariantError(f"after {after or 'building'}: {len(offences)} broken invariants\n" + "\n".join(offences))


def names_are_unique(graph: Graph) -> Iterator[Offence]:
    """No two values share a name."""
    seen: set[str] = set()
    for value in graph.values():
        if value.name in seen:
            yield f"two values are called {value.name}", repr(value)
        seen.add(value.name)


def operands_come_first(graph: Graph) -> Iterator[Offence]:
    """Every operand is an input, a constant or the output of an earlier node; every output exists."""
    ready = set(map(id, graph.inputs))
    for node in graph.nodes:
        for value in node.inputs:
            if value.const is None and id(value) not in ready:
                yield f"{value.name} is read before it is made", node_text(node)
        ready.update(map(id, node.outputs))
    for value in graph.outputs:
        if value.const is None and id(value) not in ready:
            yield f"output {value.name} is never made", repr(value)


def uses_are_right(graph: Graph) -> Iterator[Offence]:
    """`uses` and `producer` mirror the nodes' operands."""
    counts: dict[int, int] = {}
    for node in graph.nodes:
        for value in node.inputs:
            counts[id(value)] = counts.get(id(value), 0) + 1
        for value in node.outputs:
            if value.producer is not node:
                yield f"{value.name} has another producer", node_text(node)
    for value in graph.values():
        if counts.get(id(value), 0) != len(value.uses):
            yield f"{value.name} is read {counts.get(id(value), 0)} times, uses say {len(value.uses)}", repr(value)


def attributes_are_declared(graph: Graph) -> Iterator[Offence]:
    """A node has exactly the attributes that its op declares."""
    for node in graph.nodes:
        if set(node.attrs) != set(node.op.attrs):
            yield f"attributes {sorted(node.attrs)}, declared {sorted(node.op.attrs)}", node_text(node)


def shapes_follow_meaning(graph: Graph) -> Iterator[Offence]:
    """Shapes and dtypes are what the op's torch meaning gives."""
    for node in graph.nodes:
        try:
            results = infer(node.op, node.inputs, node.attrs)
        except Exception as error:
            yield f"the op cannot run: {error}", node_text(node)
            continue
        for value, (shape, dtype) in zip(node.outputs, results, strict=True):
            if (value.shape, value.dtype) != (shape, dtype):
                yield f"{value.name} is {value.dtype}{list(value.shape)}, the op gives {list(shape)}", node_text(node)


def scales_follow_rules(graph: Graph) -> Iterator[Offence]:
    """Same-scale ops share their input's parameters, fixed ones have theirs, biases are s_in * s_w in int32."""
    for node in graph.nodes:
        quant = node.outputs[0].quant
        data = node.inputs[: node.op.data_inputs]
        if node.op.name in ("quantize", "dequantize"):
            continue
        if any((v.quant is None) != (quant is None) for v in data):
            yield "float and quantised operands are mixed", node_text(node)
        elif quant is None:
            continue
        elif node.op.scale is Scale.SAME and any(v.quant != quant for v in data):
            yield "a same-scale op changes the parameters", node_text(node)
        elif node.op.name == "matmul" and node.inputs[1].quant and node.inputs[1].quant.zero_point != 0:
            yield "the second operand of a matmul has a zero point", node_text(node)
        elif node.op.scale is Scale.FIXED and quant != node.op.fixed:
            yield f"parameters are {quant}, the specification says {node.op.fixed}", node_text(node)
        elif node.op.data_inputs == 1 and (problem := _bias_problem(node.inputs[0].quant, *node.inputs[1:3])):
            yield problem, node_text(node)


def _bias_problem(x: QuantParams | None, weight: object, bias: object) -> str:
    from exporter.ir.graph import Value

    assert isinstance(weight, Value)
    assert isinstance(bias, Value)
    if x is None or weight.quant is None or bias.quant is None:
        return "weight and bias must be quantised"
    derived = tuple(derived_scale(x.scale[0], s) for s in weight.quant.scale)
    if weight.quant.zero_point != 0 or bias.quant.dtype != "int32" or bias.quant.scale != derived:
        return "bias is not int32 at s_in * s_w"
    return ""


def derived_scale(x: float, weight: float) -> float:
    """s_in * s_w: exact in float32, since both lie on the float16 grid (11 + 11 bits)."""
    return x * weight


def scales_on_the_grid(graph: Graph) -> Iterator[Offence]:
    """Every int8 scale is a float16 value of at least 2**-14 (DESIGN.md §4)."""
    for value in graph.values():
        if value.quant and value.quant.dtype != "int32":
            for scale in value.quant.scale:
                if fp16_grid(scale) != scale:
                    yield f"scale {scale!r} is not on the float16 grid", repr(value)
                    break


INVARIANTS: tuple[Callable[[Graph], Iterator[Offence]], ...] = (
    names_are_unique,
    operands_come_first,
    uses_are_right,
    attributes_are_declared,
    shapes_follow_meaning,
    scales_follow_rules,
    scales_on_the_grid,
)
