"""LayerNorm written by hand, and its weight and bias."""

from __future__ import annotations

import torch

from exporter.ir.graph import Graph, Node, Value


def recognise_layer_norms(graph: Graph) -> None:
    """Cases:

    1. `c = x - mean(x); c / sqrt(mean(c * c) + eps) -> layer_norm(x)`, so too for `c * rsqrt(...)`
    2. `layer_norm(x) * w + b -> layer_norm(x, w, b)` with one number per element of the normalised dims

    Declines: means over different dims or without keepdim, an eps that is no number, in case 2 a layer_norm that has a
    weight (a bias) already or that somebody else reads.
    """
    for node in list(graph.nodes):
        if (found := _by_hand(node)) is not None:
            x, dims, eps = found
            shape = [x.shape[d] for d in dims]
            name = node.output.name
            ones = graph.constant(f"{name}/weight", torch.ones(shape))
            zeros = graph.constant(f"{name}/bias", torch.zeros(shape))
            new = graph.emit("layer_norm", [x, ones, zeros], source=node.source, at=node, dims=dims, eps=eps)
            graph.replace_all_uses(node.output, new)
    graph.prune()
    for node in [n for n in graph.nodes if n.op.name in ("mul", "add")]:
        _absorb(graph, node)


def _by_hand(node: Node) -> tuple[Value, tuple[int, ...], float] | None:
    """x, dims and eps when `node` is the last op of case 1."""
    if node.op.name not in ("mul", "div") or node.attrs["activation"] != "none":
        return None
    pairs = [tuple(node.inputs)] if node.op.name == "div" else [tuple(node.inputs), tuple(node.inputs[::-1])]
    for centred, root in pairs:
        shifted = _operand(root, "sqrt" if node.op.name == "div" else "rsqrt")
        if shifted is None or (total := _made_by(shifted, "add")) is None:
            continue
        variance, eps = total.inputs if total.inputs[1].const is not None else total.inputs[::-1]
        spread, step = _made_by(variance, "mean"), _made_by(centred, "sub")
        if spread is None or step is None or eps.const is None or eps.numel != 1 or not spread.attrs["keepdim"]:
            continue
        square, average = _made_by(spread.inputs[0], "mul"), _made_by(step.inputs[1], "mean")
        if square is None or average is None or square.inputs != [centred, centred]:
            continue
        if average.inputs[0] is step.inputs[0] and average.attrs == spread.attrs:
            return step.inputs[0], spread.attrs["dims"], float(eps.const)
    return None


def _absorb(graph: Graph, node: Node) -> None:
    """Case 2."""
    y, value = node.inputs if node.inputs[1].const is not None else node.inputs[::-1]
    norm = _made_by(y, "layer_norm")
    if norm is None or value.const is None or node.attrs["activation"] != "none" or y.shape != node.output.shape:
        return
    weight, bias = norm.inputs[1:]
    assert weight.const is not None
    assert bias.const is not None
    free = not bool(bias.const.any()) and (node.op.name == "add" or bool((weight.const == 1).all()))
    full = value.const.reshape((1,) * (len(y.shape) - value.const.dim()) + tuple(value.shape))
    dims = norm.attrs["dims"]
    if not free or graph.only_consumer(y) is None or any(n != 1 and d not in dims for d, n in enumerate(full.shape)):
        return
    shape = [y.shape[d] if d in dims else 1 for d in range(len(y.shape))]
    content = full.expand(shape).reshape(weight.shape).contiguous()
    graph.set_input(norm, 1 if node.op.name == "mul" else 2, graph.constant(value.name, content))
    graph.replace_all_uses(node.output, y)
    graph.remove(node)


def _made_by(value: Value, op: str) -> Node | None:
    return value.producer if value.producer is not None and value.producer.op.name == op else None


def _operand(value: Value, op: str) -> Value | None:
    node = _made_by(value, op)
    return node.inputs[0] if node else None
