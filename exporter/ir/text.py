"""A stable text dump of a graph: what `--stop-after simplify` prints and golden tests compare."""

from __future__ import annotations

import hashlib

from exporter.ir.graph import Graph, Node, Value
from exporter.ir.quant import QuantParams


def graph_text(graph: Graph) -> str:
    """The whole graph, one node a line; constants by shape and a hash of their bytes."""
    lines = [f"graph {graph.name}"]
    lines += [f"  input  {_typed(v)}" for v in graph.inputs]
    lines += [f"  {node_text(node)}" for node in graph.nodes]
    lines += [f"  output {name} = {v.name}" for name, v in zip(graph.output_names, graph.outputs, strict=True)]
    return "\n".join(lines) + "\n"


def node_text(node: Node) -> str:
    """One node: outputs = op(operands) {attributes}  # module (file:line)."""
    outputs = ", ".join(_typed(v) for v in node.outputs)
    operands = ", ".join(_constant(v) if v.const is not None else v.name for v in node.inputs)
    attrs = " ".join(f"{key}={_plain(node.attrs[key])}" for key in sorted(node.attrs))
    place = node.source.module + (f" {node.source.file}:{node.source.line}" if node.source.file else "")
    return f"{outputs} = {node.op.name}({operands})" + (f" {{{attrs}}}" if attrs else "") + f"  # {place}".rstrip(" #")


def _typed(value: Value) -> str:
    return f"{value.name} {list(value.shape)}{_quant(value.quant)}"


def _quant(quant: QuantParams | None) -> str:
    if quant is None:
        return ""
    scale = f"{quant.scale[0]:g}" if quant.axis is None else f"{len(quant.scale)} scales on axis {quant.axis}"
    return f" {quant.dtype}<{scale}, {quant.zero_point}>"


def _constant(value: Value) -> str:
    assert value.const is not None
    if value.numel == 1 and value.quant is None:
        return f"{value.const.item():.9g}"
    digest = hashlib.sha256(value.const.contiguous().numpy().tobytes()).hexdigest()[:8]
    return f"const{list(value.shape)}:{digest}{_quant(value.quant)}"


def _plain(attribute: object) -> str:
    return str(attribute).replace(" ", "")
