"""Codes and reals at a graph's inputs and outputs, whatever the file format."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from exporter.ir.graph import Graph
from exporter.ir.quant import QuantParams

CodesRow = tuple[str, Tensor, Tensor]
"""What is compared, the interpreter's codes, the file's."""


def codes_in(graph: Graph, sample: Sequence[Tensor]) -> list[Tensor]:
    """A sample as the graph takes it: quantised where it wants codes."""
    pairs = zip(graph.inputs, sample, strict=True)
    return [v.quant.quantize(t) if v.quant and t.is_floating_point() else t for v, t in pairs]


def output_params(graph: Graph) -> list[QuantParams | None]:
    """The parameters behind each output: its own, or those that its last dequantize read. None: a float output."""
    params = []
    for value in graph.outputs:
        producer = value.producer
        behind = producer.inputs[0] if producer and producer.op.name == "dequantize" else value
        params.append(behind.quant)
    return params


def codes(tensor: Tensor, params: QuantParams) -> Tensor:
    """Output codes: as given, or recovered from dequantised floats (exact: scale times an integer below 2^9)."""
    return torch.round(tensor / params.scale[0]) + params.zero_point if tensor.is_floating_point() else tensor


def reals(tensor: Tensor, params: QuantParams | None) -> Tensor:
    """Output values in float32, whatever the file gives."""
    return tensor if tensor.is_floating_point() or params is None else params.dequantize(tensor)
