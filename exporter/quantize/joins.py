"""Ranges far apart in one quantised tensor: where the model's user can part them, and where only a warning helps."""

from __future__ import annotations

from collections.abc import Iterable

from exporter.ir.graph import Graph, Value
from exporter.ir.ops import Scale
from exporter.ir.quant import MIN_SCALE
from exporter.quantize.calibrate import Ranges

FEWEST_CODES = 16
"""A 16th of the 256: what is left of a range in a join that would be refused at the model's end."""
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


def coarse_values(graph: Graph, ranges: Ranges) -> list[str]:
    """One warning that counts the values of the int8 `graph` whose calibrated range keeps fewer than FEWEST_CODES codes
    because their tensor's scale is that of a wider one; none where there are none."""
    left: dict[str, float] = {}
    values = [v for v in graph.values() if v.quant and v.const is None and v.name in ranges]
    for value in values:
        low, high = ranges[value.name]
        width = max(high, 0.0) - min(low, 0.0)
        fixed = value.producer is not None and value.producer.op.scale is Scale.FIXED
        joined = value.quant is not None and value.quant.scale[0] > MIN_SCALE  # else nothing wider set the scale
        if value.quant and joined and not fixed and 0 < width < FEWEST_CODES * value.quant.scale[0]:
            left[value.name] = width / value.quant.scale[0]
    if not left:
        return []
    worst = min(left, key=lambda name: left[name])
    counted = f"{len(left)} of {len(values)} tensors keep fewer than {FEWEST_CODES} of 256 codes"
    return [f"{counted}, {worst} only {max(1, round(left[worst]))}: the network joins them with far wider ones"]
