"""The structural half of quantisation: a float graph with the ops of its int8 twin."""

from __future__ import annotations

from collections.abc import Sequence

from exporter.ir.graph import Graph
from exporter.quantize.attention import split_attention
from exporter.quantize.calibrate import Ranges
from exporter.quantize.depthwise import split_depthwise
from exporter.quantize.expand import expand
from exporter.quantize.keep_float import kept_float
from exporter.quantize.layer_norm import split_layer_norms
from exporter.quantize.legalize import isolate_float, requantize_pinned, separate_constants


def write_in_int8(graph: Graph, ranges: Ranges, keep_float: Sequence[str] = ()) -> dict[str, str]:
    """Rewrite the float `graph`, in place, with the ops of its int8 twin. Numbers stay float: it computes what it
    did, but for their rounding. `ranges` receives those of new values. Returns the float islands.
    """
    kept = kept_float(graph, keep_float)
    split_depthwise(graph, kept)
    split_attention(graph, kept)
    split_layer_norms(graph, kept)
    expand(graph, ranges, kept)
    islands = isolate_float(graph, kept)
    separate_constants(graph)
    requantize_pinned(graph)
    return islands
