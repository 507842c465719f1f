"""`--keep-float GLOB`: the part of the model that its user keeps in float, by module path or value name."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from exporter.errors import UsageError, nearest
from exporter.ir.graph import Graph, Node

KEPT = "kept float: "
"""Begins the reason of an island that was asked for; the glob follows."""


def kept_float(graph: Graph, globs: Sequence[str]) -> dict[Node, str]:
    """The nodes that `globs` name, each with its reason (KEPT and the first glob that names it).

    A glob is held against the module path of a node (`backbone.blocks.3.*`; `*` crosses dots) and against the names of
    its results, which tell ops of one `forward` apart. Raises UsageError for globs that name nothing.
    """
    found: dict[Node, str] = {}
    idle = []
    for glob in globs:
        named = [node for node in graph.nodes if any(fnmatchcase(name, glob) for name in _names(node))]
        for node in named:
            found.setdefault(node, f"{KEPT}{glob}")
        if not named:
            idle.append(glob)
    if idle:
        known = list(dict.fromkeys(name for node in graph.nodes for name in _names(node)))
        raise UsageError(
            f"keep_float: nothing in {graph.name} is called {', '.join(map(repr, idle))}",
            why="; ".join(hint for glob in idle if (hint := nearest(glob, known))),
            try_=[
                "a module path of your model, such as 'backbone.blocks.3.*'; --stop-after simplify shows every one",
                "a norm or an activation that its convolution took in goes by the convolution's path",
            ],
        )
    return found


def _names(node: Node) -> list[str]:
    return [name for name in (node.source.module, *(value.name for value in node.outputs)) if name]
