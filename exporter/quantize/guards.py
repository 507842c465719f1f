"""Warnings of int8 values that calibration left with few codes, or with a range that more pictures would change."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from exporter.ir.graph import Graph, Node, Value
from exporter.ir.ops import Scale
from exporter.ir.quant import MIN_SCALE
from exporter.quantize.calibrate import Extremes, Ranges

FEWEST_CODES = 16
"""A 16th of the 256: what is left of a range in a join that would be refused at the model's end."""
MOST_OVERSHOOT = 0.015
"""Of a range's width: how far an unseen picture may go beyond it, on average over the values. Twenty-eight varied
photographs leave 0.003 in FasterNet-T0, Lite-HRNet-18 and EfficientDet-D0, three leave 0.03 and more.
"""
RESAMPLES, SEED = 64, 0
NAMED = 3
"""Values named in one warning."""


def value_warnings(graph: Graph, ranges: Ranges) -> list[str]:
    """What the parameters of the int8 `graph` cost values whose calibrated `ranges` (none: unknown) are narrow."""
    return [*coarse_values(graph, ranges), *tiny_values(graph, ranges), *tiny_weights(graph)]


def coarse_values(graph: Graph, ranges: Ranges) -> list[str]:
    """One warning that counts the values whose range keeps fewer than FEWEST_CODES codes because their tensor's scale
    is that of a wider one; none where there are none."""
    values = _free(graph, ranges)
    left = {value: codes for value, (codes, scale) in values.items() if codes < FEWEST_CODES and scale > MIN_SCALE}
    if not left:
        return []
    worst = min(left, key=lambda value: left[value])
    counted = f"{len(left)} of {len(values)} tensors keep fewer than {FEWEST_CODES} of 256 codes"
    fewest = max(1, round(left[worst]))
    return [f"{counted}, {told(worst)} only {fewest}: the network joins them with far wider ones"]


def tiny_values(graph: Graph, ranges: Ranges) -> list[str]:
    """One warning that names the values so small that the smallest scale (2^-14) leaves them few codes."""
    left = {
        v: codes for v, (codes, scale) in _free(graph, ranges).items() if codes < FEWEST_CODES and scale == MIN_SCALE
    }
    if not left:
        return []
    worst = sorted(left, key=lambda value: left[value])
    named = [f"{told(value)} spans {left[value] * MIN_SCALE:.2g}, {left[value]:.1f} codes" for value in worst]
    return [f"{_some(named)}: int8 rounds most of it to zero, because scales are float16, at least 2^-14. Scale it up"]


def tiny_weights(graph: Graph) -> list[str]:
    """One warning that names the weights most of whose output channels have few codes at the smallest scale."""
    left: dict[Value, tuple[float, Node]] = {}
    for node in graph.nodes:
        weight = node.inputs[1] if node.op.data_inputs == 1 and len(node.inputs) > 1 else None
        if weight is None or weight.const is None or weight.quant is None or weight.quant.axis is None:
            continue
        largest = weight.const.flatten(1).abs().amax(1).double().numpy()
        if len(used := largest[largest > 0]) and (codes := float(np.median(used))) < FEWEST_CODES:
            left[weight] = codes, node
    named = [
        f"{weight.name} {_place(node)} has codes up to {codes:.0f} of 127"
        for weight, (codes, node) in sorted(left.items(), key=lambda item: item[1][0])
    ]
    why = "its weights are tiny, and scales are float16, at least 2^-14. Scale them up, and what follows down"
    return [f"{_some(named)}: {why}"] if named else []


def few_pictures(graph: Graph, extremes: Extremes) -> list[str]:
    """One warning where ranges would change much with other samples, with how many would do.

    Bootstrap: draw as many samples as there are, with replacement, and see how far those that were not drawn go beyond
    the range of those that were. `extremes` are of observed values of the float graph.
    """
    count = len(next(iter(extremes.values()))[0]) if extremes else 0
    if count == 0:
        return []
    if count == 1:
        return ["ranges come from one sample, so nothing tells how they vary: calibrate on 16 or more typical pictures"]
    overshoot = overshoots(extremes)
    mean = float(np.mean(list(overshoot.values()) or [0.0]))
    if mean <= MOST_OVERSHOOT:
        return []
    values = {value.name: value for value in graph.values()}
    worst = sorted(overshoot, key=lambda name: -overshoot[name])[:NAMED]
    named = "; ".join(
        f"{told(values[name]) if name in values else name} by {100 * overshoot[name]:.0f} %" for name in worst
    )
    enough = math.ceil(count * mean / MOST_OVERSHOOT / 8) * 8  # it falls like 1 / count
    beyond = f"an unseen one goes beyond a range by {100 * mean:.1f} % on average ({named})"
    return [f"{count} calibration samples are too few for stable ranges: {beyond}. About {enough} would do"]


def overshoots(extremes: Extremes) -> dict[str, float]:
    """How far a sample goes beyond the range of others, on average, as a share of the whole range; by value."""
    names = list(extremes)
    lows = np.minimum([extremes[name][0] for name in names], 0.0)
    highs = np.maximum([extremes[name][1] for name in names], 0.0)
    count = lows.shape[1]
    random = np.random.default_rng(SEED)
    total, times = np.zeros(len(names)), 0
    for _ in range(RESAMPLES):
        drawn = random.integers(0, count, count)
        left = np.setdiff1d(np.arange(count), drawn)
        if len(left):
            above = highs[:, left] - highs[:, drawn].max(1, keepdims=True)
            below = lows[:, drawn].min(1, keepdims=True) - lows[:, left]
            total += (above.clip(0) + below.clip(0)).mean(1)
            times += 1
    widths = highs.max(1) - lows.min(1)
    return {name: float(total[i] / times / widths[i]) for i, name in enumerate(names) if widths[i] > 0}


def told(value: Value) -> str:
    """A value by name, with the module path and line that made it."""
    return f"{value.name} {_place(value.producer)}" if value.producer else value.name


def _place(node: Node) -> str:
    """Where the model makes it: a value's name begins with the module path."""
    return f"({node.source.file}:{node.source.line})" if node.source.file else f"(in {node.source.module})"


def _free(graph: Graph, ranges: Mapping[str, tuple[float, float]]) -> dict[Value, tuple[float, float]]:
    """Quantised values with a range of their own that is not nothing -> how many steps it spans, and one step."""
    found = {}
    for value in graph.values():
        fixed = value.producer is not None and value.producer.op.scale is Scale.FIXED
        if value.quant is None or value.const is not None or value.name not in ranges or fixed:
            continue
        low, high = ranges[value.name]
        if (width := max(high, 0.0) - min(low, 0.0)) > 0:
            found[value] = width / value.quant.scale[0], value.quant.scale[0]
    return found


def _some(named: list[str]) -> str:
    more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
    return "; ".join(named[:NAMED]) + more
