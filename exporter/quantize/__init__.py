"""Stage quantize: a float graph and calibration samples become one int8 graph, whatever the targets."""

from __future__ import annotations

from collections.abc import Sequence

from exporter.ir.check import check
from exporter.ir.graph import Graph
from exporter.ir.quant import QuantParams
from exporter.quantize.assign import LARGEST_WEIGHT, REDUCED_WEIGHT, Plan, apply_plan, make_plan
from exporter.quantize.calibrate import Ranges
from exporter.quantize.legalize import float_borders, join_float_borders
from exporter.quantize.rewrite import write_in_int8

IO = ("float", "int8", "uint8")


def quantize(
    graph: Graph,
    ranges: Ranges | None,
    plan: Plan | None = None,
    io: str = "float",
    *,
    reduce_range: bool = False,
    keep_float: Sequence[str] = (),
) -> tuple[Plan, dict[str, str]]:
    """Turn the simplified float `graph` into an int8 one, in place.

    Parameters come from `ranges` (calibrate), or from `plan` when one is given. `io` is the dtype at the graph's
    inputs and outputs; those of a float tail stay float. With `reduce_range` weights have 7 bits: kernels that add
    pairs of products in 16 bits do not saturate then. What `keep_float` names stays float (see `kept_float`). Returns
    the plan and the float islands (value name -> reason).
    """
    ranges = dict(ranges or {})
    islands = write_in_int8(graph, ranges, keep_float)
    largest = REDUCED_WEIGHT if reduce_range else LARGEST_WEIGHT
    if plan is None:
        plan = make_plan(graph, ranges, largest)
    apply_plan(graph, plan, largest)
    if io == "float":
        _float_io(graph)
    elif io == "uint8":
        _uint8_io(graph)
    graph.prune()
    check(graph, after="quantize")
    return plan, islands


def _float_io(graph: Graph) -> None:
    params = [v.quant for v in graph.inputs]
    float_borders(graph)
    for value, quant in zip(graph.inputs, params, strict=True):
        value.quant = None
        for node in value.uses:
            node.output.quant = quant
    join_float_borders(graph)


def _uint8_io(graph: Graph) -> None:
    """uint8 codes are int8 codes + 128: a shift on the way in and one on the way out, at the same scale."""
    first = graph.nodes[0] if graph.nodes else None
    for value in graph.inputs:
        quant = value.quant
        assert quant is not None
        shifted = graph.emit("quantize", [value], name=f"{value.name}/int8", at=first)
        assert shifted.producer is not None
        graph.replace_all_uses(value, shifted, but=[shifted.producer])
        shifted.quant, value.quant = quant, QuantParams(quant.scale, quant.zero_point + 128, None, "uint8")
    tail = graph.tail()
    for index, value in enumerate(list(graph.outputs)):
        if value.producer in tail:
            continue
        assert value.quant is not None
        shifted = graph.emit("quantize", [value], name=f"{graph.output_names[index]}/uint8")
        shifted.quant = QuantParams(value.quant.scale, value.quant.zero_point + 128, None, "uint8")
        graph.outputs[index] = shifted
