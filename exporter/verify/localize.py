"""Where an int8 model loses accuracy, in the words of the report: layers ranked, why, and what keeping some of them in
float would gain. The numbers are `exporter.quantize.sensitivity`'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence

from torch import Tensor

from exporter.ir.graph import Graph
from exporter.ir.macs import integer_macs
from exporter.quantize.keep_float import kept_float
from exporter.quantize.localization import LayerError, Localization
from exporter.quantize.sensitivity import localize, measured_snr
from exporter.verify.results import Advice, Diagnosis, LayerRow, Verification

SAMPLES = 2
"""Held-out samples that a diagnosis runs on."""
PROBES = 8
ADVISED, HALF = 5, 0.5
"""Most layers that advice is built on: the fewest that make half of the error."""
WIDE, FEW = 8.0, 128
"""A range so many times a channel's, and fewer codes than that, are worth telling."""


def diagnose(
    float_graph: Graph,
    int8_graph: Graph,
    feeds: Sequence[Sequence[Tensor]],
    requantize: Callable[[tuple[str, ...]], Graph],
    *,
    keep_float: tuple[str, ...] = (),
    progress: Callable[[int], None] = lambda done: None,
) -> Diagnosis:
    """Localise on `feeds`, and try the advice once: `requantize` gives the int8 graph with these globs in float."""
    found = localize(float_graph, int8_graph, feeds, keep_float=keep_float, probes=PROBES, progress=progress)
    place = {value: index for index, value in enumerate(found.order)}
    advice = None
    if globs := advised(found, float_graph):
        kept = {v.name for node in kept_float(float_graph, [*keep_float, *globs]) for v in node.outputs}
        islands = requantize((*keep_float, *globs))
        advice = Advice(
            keep_float=globs,
            expected_snr=_finite(found.expected_snr(kept)),
            measured_snr=_finite(measured_snr(float_graph, islands, feeds)),
            integer_macs=integer_macs(islands),
        )
    return Diagnosis(
        samples=len(feeds),
        output_snr=_finite(found.output_snr),
        outputs={name: _finite(snr) for name, snr in found.snr.items()},
        accounted=_finite(found.accounted),
        layers=tuple(_row(layer, place[layer.value]) for layer in found.layers),
        advice=advice,
    )


def wanted(found: Verification, drowned: float) -> bool:
    """Whether int8 failed a gate on its accuracy, or keeps less than `drowned` dB of an output."""
    failed = any(not gate.passed and ("int8 SNR" in gate.name or gate.name.endswith(" drop")) for gate in found.gates)
    rows = (row for each in found.targets for row in each.int8_snr)
    return failed or any(row.pooled is not None and row.pooled < drowned for row in rows)


def advised(found: Localization, graph: Graph) -> tuple[str, ...]:
    """Globs that keep the layers in float to which half of the output error is due, with what must stay beside them:
    module paths, or values' names where a path would be empty.
    """
    total, reached, region = sum(layer.effect for layer in found.layers), 0.0, set[str]()
    for layer in found.layers[:ADVISED]:
        if reached >= HALF * total:
            break
        region |= found.region(layer.value)
        reached += layer.effect
    return globs_of(graph, region)


def globs_of(graph: Graph, values: Collection[str]) -> tuple[str, ...]:
    """Globs that name the nodes of these values: module paths, or values' names where a path would be empty."""
    names = (node.source.module or node.outputs[0].name for node in graph.nodes if node.outputs[0].name in values)
    return tuple(dict.fromkeys(name.replace("[", "[[]") for name in names))


def cause(layer: LayerError) -> str:
    """What most of a layer's own error is due to."""
    if layer.effect <= 0:
        return ""
    if layer.weights_effect > layer.effect / 2:
        return "rounded weights"
    if layer.clipping > 0.5:
        return f"its range clips {100 * layer.clipped:.2g} % of the elements"
    if layer.spread > WIDE:
        return f"one range, {layer.spread:.0f}x as wide as the median channel's"
    if layer.codes < FEW:
        return f"{layer.codes} of 256 codes used"
    return "rounding to 256 codes"


def _row(layer: LayerError, index: int) -> LayerRow:
    source = layer.source
    return LayerRow(
        index=index,
        value=layer.value,
        op=layer.op,
        module=source.module,
        line=f"{source.file}:{source.line}" if source.file else "",
        own_snr=_finite(layer.own_snr),
        inherited_snr=_finite(layer.inherited_snr),
        effect=layer.effect,
        measured=layer.measured,
        cause=cause(layer),
    )


def _finite(decibels: float) -> float | None:
    return decibels if math.isfinite(decibels) else None
