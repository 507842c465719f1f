"""Drop what has no effect."""

from __future__ import annotations

from exporter.ir.graph import Graph, Node
from exporter.simplify.affine import read_affine


def drop_identities(graph: Graph) -> None:
    """`f(x) -> x` for: reshape, resize, pool or slice that change nothing, identity permutations, zero pads,
    concat of one, x * 1, x + 0.

    Lite-HRNet resizes its lowest branch to its own size (DESIGN.md §3, trap 6).
    """
    for node in list(graph.nodes):
        if _is_identity(node):
            graph.replace_all_uses(node.output, node.inputs[0] if node.inputs[0].const is None else node.inputs[1])
            graph.remove(node)


def _is_identity(node: Node) -> bool:
    x, attrs = node.inputs[0], node.attrs
    match node.op.name:
        case "reshape" | "resize_nearest" | "resize_bilinear" | "slice":
            return x.shape == node.output.shape and attrs.get("step", 1) == 1
        case "transpose":
            return attrs["perm"] == tuple(range(len(x.shape)))
        case "pad":
            return not any(attrs["before"]) and not any(attrs["after"])
        case "concat":
            return len(node.inputs) == 1
        case "max_pool2d" | "avg_pool2d":
            return attrs["kernel"] == (1, 1) and attrs["stride"] == (1, 1) and not any(attrs["padding"])
        case "mul" | "add" | "sub":
            affine = read_affine(node)
            return affine is not None and bool((affine.factor == (1 if node.op.name == "mul" else 0)).all())
    return False
