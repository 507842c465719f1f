"""Compute equal things once."""

from __future__ import annotations

from exporter.ir.graph import Graph


def merge_duplicates(graph: Graph) -> None:
    """`op(x), op(x) -> one op(x)` when op, operands and attributes are the same.

    Ops are pure, so this is exact. Lite-HRNet's fusion evaluates f_i0(y0) twice: it becomes `y + y`.
    Declines: different constants, even with equal contents (they may belong to different layers).
    """
    seen: dict[object, object] = {}
    for node in list(graph.nodes):
        key = (node.op.name, tuple(map(id, node.inputs)), tuple(sorted((k, repr(v)) for k, v in node.attrs.items())))
        first = seen.setdefault(key, node)
        if first is not node:
            for twin, kept in zip(node.outputs, first.outputs, strict=True):  # type: ignore[attr-defined]
                graph.replace_all_uses(twin, kept)
            graph.remove(node)
