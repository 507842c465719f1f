"""Teacher forcing: every op gets the integer interpreter's operands, so that what it does wrong stays its own.

Free-running, one code that rounds the other way flips many codes of a deep network; teacher-forced, it is one code.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from exporter.ir.graph import Graph, Value
from exporter.ir.run import Interpreter


def teacher_forced(graph: Graph) -> Graph:
    """A copy of a quantised graph in which every op stands alone: what it reads are inputs, what it gives are outputs.

    Inputs and outputs bear the names of the values of `graph` that they stand for; an input that several ops read is
    one.
    """
    alone = graph.clone()
    given: dict[int, Value] = {id(value): value for value in alone.inputs}
    results = [value for node in alone.nodes for value in node.outputs]
    for node in alone.nodes:
        for index, value in enumerate(list(node.inputs)):
            if value.const is not None or value in alone.inputs:
                continue
            if id(value) not in given:
                given[id(value)] = twin = alone.add_input(f"{value.name}/given", value.shape, value.dtype)
                twin.quant = value.quant
            alone.set_input(node, index, given[id(value)])
    alone.set_outputs({value.name: value for value in results})
    return alone


def forced_run(graph: Graph, inputs: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """What `teacher_forced(graph)` takes and is expected to give, from the integer interpreter on `inputs`."""
    seen: dict[str, Tensor] = {}
    Interpreter(graph).run(inputs, tap=lambda value, tensor: seen.update({value.name: tensor}))
    alone = teacher_forced(graph)
    fed = [seen[value.name.removesuffix("/given")] for value in alone.inputs]
    return fed, [seen[name] for name in alone.output_names]
