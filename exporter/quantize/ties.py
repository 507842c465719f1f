"""Scales of int8 products that no processor rounds otherwise.

XNNPACK multiplies the product of two codes by m = s_a · s_b / s_y: on x86 in float32, halves to even (qs8-vmul, fp32),
on ARM in fixed point, halves up (rndnu). Most scales never meet a half; some meet one in a thousand products, and a
deep network spreads that to every code. The next scales of the float16 grid are free of them as a rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from exporter.ir.graph import Graph, Node, Value
from exporter.ir.ops import Scale
from exporter.ir.quant import QuantParams
from exporter.quantize.legalize import integer_nodes

STEPS = 64
"""How many next scales are tried: 64 steps of the grid widen a range by 3 to 6 %."""
PASSES = 4
"""A product may read another's result, whose scale came after it."""
SMALLEST = 2.0**-16
"""Below, the kernel is not XNNPACK's."""
CODES = np.arange(-128, 128)


def avoid_ties(graph: Graph, plan: dict[str, QuantParams], groups: Sequence[Sequence[Value]]) -> None:
    """Widen the scales of products' results until x86 and ARM give one code for every pair of codes.

    `groups` are the values that share parameters. Where no scale within reach is free of ties, that with the fewest.
    """
    known = set(integer_nodes(graph))
    found = [(group, list(_products(group, known))) for group in groups if not _is_fixed(group)]
    for _ in range(PASSES):
        before = dict(plan)
        for group, products in found:
            if products:
                best = _best(plan[group[0].name], products, plan)
                plan.update({value.name: best for value in group})
        if plan == before:
            return


def ties(node: Node, plan: Mapping[str, QuantParams], out: QuantParams) -> int:
    """Pairs of codes that x86 and ARM round apart."""
    one, other = (np.float32(plan[value.name].scale[0]) for value in node.inputs)
    factor = one * other / np.float32(out.scale[0])
    if factor < SMALLEST:
        return 0
    product = _product(node, plan)
    even = np.rint(product.astype(np.float32) * factor)
    upwards = np.floor(product * np.float64(factor) + 0.5)
    first, last = -128 - out.zero_point, 127 - out.zero_point
    return int(np.count_nonzero(even.clip(first, last) != upwards.clip(first, last)))


def _best(params: QuantParams, products: Sequence[Node], plan: Mapping[str, QuantParams]) -> QuantParams:
    counted: list[tuple[int, QuantParams]] = []
    for wider in _wider(params):
        inside = {node.output.name: wider for node in products}  # a product may read another one of its group
        counted.append((sum(ties(node, {**plan, **inside}, wider) for node in products), wider))
        if counted[-1][0] == 0:
            break
    return min(counted, key=lambda pair: pair[0])[1]


def _wider(params: QuantParams) -> Iterator[QuantParams]:
    """The same, and with the next scales of the grid: at the same zero point they hold the same range."""
    scale = np.float16(params.scale[0])
    for _ in range(STEPS):
        yield QuantParams((float(scale),), params.zero_point)
        scale = np.nextafter(scale, np.float16(np.inf))


def _product(node: Node, plan: Mapping[str, QuantParams]) -> np.ndarray:
    """Every product of codes that can come up."""
    one, other = (CODES - plan[value.name].zero_point for value in node.inputs)
    return np.multiply.outer(one, other).reshape(-1)


def _products(group: Iterable[Value], known: set[Node]) -> Iterator[Node]:
    """Those whose results are in the group; a tensor times itself has a table instead."""
    for value in group:
        node = value.producer
        if node in known and node is not None and node.op.name == "mul" and node.inputs[0] is not node.inputs[1]:
            yield node


def _is_fixed(group: Iterable[Value]) -> bool:
    return any(v.producer is not None and v.producer.op.scale is Scale.FIXED for v in group)
