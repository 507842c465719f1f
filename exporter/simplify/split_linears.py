"""A linear layer that is only read in slices becomes one layer for each."""

from __future__ import annotations

import itertools
import math

from exporter.ir.graph import Graph, Node, Value

Span = tuple[int, int]
Path = list[int]
"""The dim that is sliced, in the output of each node of a way."""


def split_linears(graph: Graph) -> None:
    """`slice(linear(x, w, b)) -> linear(x, w[slice], b[slice])`, also behind reshapes and transposes:

        linear [N, T, 3·h·d] -> reshape [N, T, 3, h, d] -> transpose -> slice i of the 3
        linear i [N, T, h·d] -> reshape [N, T, 1, h, d] -> transpose

    The q, k and v of attention have int8 scales of their own then, and no slice copies anything.
    Declines: a layer with an activation, steps other than 1, slices that overlap or cut through what a reshape put
    into one dim, any other reader on the way.
    """
    for linear in [n for n in graph.nodes if n.op.name == "linear" and n.attrs["activation"] == "none"]:
        way = _way(graph, linear)
        end = way[-1].output if way else linear.output
        slices = graph.consumers(end)
        found = [_trace(node, linear, way) for node in slices]
        if not slices or end in graph.outputs or None in found:
            continue
        cuts = [cut for cut in found if cut is not None]
        spans = sorted(span for _, span in cuts)
        if all(first[1] <= second[0] for first, second in itertools.pairwise(spans)):
            for node, (path, span) in zip(slices, cuts, strict=True):
                _split(graph, linear, way, node, path, span)
    graph.prune()


def _way(graph: Graph, linear: Node) -> list[Node]:
    """The reshapes and transposes between a layer and its slices."""
    way: list[Node] = []
    reader = graph.only_consumer(linear.output)
    while reader is not None and reader.op.name in ("reshape", "transpose"):
        way.append(reader)
        reader = graph.only_consumer(reader.output)
    return way


def _trace(node: Node, linear: Node, way: list[Node]) -> tuple[Path, Span] | None:
    """Follow a slice's dim up to the layer's output features: its place on the way, and the features that it takes."""
    if node.op.name != "slice" or node.attrs["step"] != 1:
        return None
    dim, inner, path = node.attrs["dim"], 1, []
    for step in reversed(way):
        path.append(dim)
        above, below = step.inputs[0].shape, step.output.shape
        if step.op.name == "transpose":
            dim = step.attrs["perm"][dim]
            continue
        same = [d for d, n in enumerate(above) if n == below[dim] and math.prod(above[:d]) == math.prod(below[:dim])]
        if same:
            dim = same[0]
        elif step is way[0] and math.prod(below[dim:]) == above[-1]:
            dim, inner = len(above) - 1, math.prod(below[dim + 1 :])
        else:
            return None
    if dim != len(linear.output.shape) - 1:
        return None
    return path[::-1], (node.attrs["start"] * inner, node.attrs["end"] * inner)


def _split(graph: Graph, linear: Node, way: list[Node], node: Node, path: Path, span: Span) -> None:
    x, weight, bias = linear.inputs
    parts = []
    for value in (weight, bias):
        assert value.const is not None
        parts.append(graph.constant(value.name, value.const[span[0] : span[1]].contiguous()))
    result: Value = graph.emit("linear", [x, *parts], source=linear.source, at=node, **linear.attrs)
    for step, dim in zip(way, path, strict=True):
        attrs = dict(step.attrs)
        if step.op.name == "reshape":
            shape = list(step.output.shape)
            shape[dim] = node.attrs["end"] - node.attrs["start"]
            attrs["shape"] = tuple(shape)
        result = graph.emit(step.op.name, [result], source=step.source, at=node, **attrs)
    graph.replace_all_uses(node.output, result)
    graph.remove(node)
