"""A graph with a float tail in two parts: its body up to the heads, and the tail behind them."""

from __future__ import annotations

from collections.abc import Sequence

from exporter.ir.graph import Graph, Node, Value


def body(graph: Graph, names: Sequence[str] = ()) -> Graph:
    """A copy that ends where the float tail begins: the heads, codes in a quantised graph, are its outputs.

    `names` are the heads' in order; they keep the names of their values where the count is another.
    """
    alone = graph.clone()
    heads = list(dict.fromkeys(head for _, _, head in _border(alone)))
    alone.set_outputs(dict(zip(names if len(names) == len(heads) else [v.name for v in heads], heads, strict=True)))
    alone.prune()
    return alone


def without_tail(graph: Graph) -> Graph:
    """A copy of all but the float tail. Its outputs are numbered: the heads, and those that the tail does not make."""
    alone = graph.clone()
    behind = alone.tail()
    kept = [head for _, _, head in _border(alone)] + [v for v in alone.outputs if v.producer not in behind]
    alone.set_outputs({str(number): value for number, value in enumerate(kept)})
    alone.prune()
    return alone


def tail(graph: Graph) -> Graph:
    """A copy that begins there: it takes the heads, in the order in which `body` gives them."""
    alone = graph.clone()
    behind = alone.tail()
    given: dict[Value, Value] = {}
    border = _border(alone)
    alone.inputs = []
    for node, index, head in border:
        if head not in given:
            given[head] = alone.add_input(f"{head.name}/given", head.shape, head.dtype)
            given[head].quant = head.quant
        alone.set_input(node, index, given[head])
    ends = zip(alone.output_names, alone.outputs, strict=True)
    alone.set_outputs({name: value for name, value in ends if value.producer in behind})
    alone.prune()
    return alone


def _border(graph: Graph) -> list[tuple[Node, int, Value]]:
    """(reader, operand, head) wherever the tail, or the dequantize in front of it, reads a value of the body."""
    behind = graph.tail()
    readers = []
    for node in (n for n in graph.nodes if n in behind):
        for index, value in enumerate(node.inputs):
            producer = value.producer
            if producer is not None and producer.op.name == "dequantize":
                readers.append((producer, 0, producer.inputs[0]))
            elif value.const is None and producer not in behind:
                readers.append((node, index, value))
    return list(dict.fromkeys(readers))


def border_names(graph: Graph) -> set[str]:
    """Names of the dequantised heads, which a quantised graph's float tail reads."""
    operands = [value for node in graph.tail() for value in node.inputs]
    return {v.name for v in operands if v.producer is not None and v.producer.op.name == "dequantize"}
