"""Where the model's user can part ranges that share one quantised tensor."""

from __future__ import annotations

from collections.abc import Iterable

from exporter.ir.graph import Graph, Value

WEIGHTED = frozenset({"conv2d", "conv_transpose2d", "linear", "matmul"})


def ends_outside(graph: Graph, group: Iterable[Value]) -> bool:
    """Whether values reach an output of the graph with no weighted op between: boxes and scores of a head do, features
    do not, which the network joined itself (Lite-HRNet's blocks), and which no user can return one by one."""
    seen: set[int] = set()
    todo = list(group)
    while todo:
        value = todo.pop()
        if value in graph.outputs:
            return True
        for node in value.uses:
            if node.op.name not in WEIGHTED and id(node) not in seen:
                seen.add(id(node))
                todo += node.outputs
    return False
