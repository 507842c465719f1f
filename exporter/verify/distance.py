"""Outputs of several files, and of the integer interpreter, against each other in LSB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from torch import Tensor

from exporter.verify.parity import CodeMeter
from exporter.verify.results import Distance


class Distances:
    """Meters for every output and every two sources (tflite, onnx, coreml, interpreter), sample by sample."""

    def __init__(self, outputs: Sequence[str]) -> None:
        self._outputs = tuple(outputs)
        self._meters: dict[tuple[str, str, str], CodeMeter] = {}

    def add(self, codes: Mapping[str, Sequence[Tensor]]) -> None:
        """Take in one sample: source -> codes of every output, in PyTorch's axis order. Sources keep their order."""
        for (one, ours), (other, theirs) in combinations(codes.items(), 2):
            for output, a, b in zip(self._outputs, ours, theirs, strict=True):
                meter = self._meters.setdefault((one, other, output), CodeMeter(output))
                meter.add(a, b)

    def result(self) -> tuple[Distance, ...]:
        """Pair by pair, output by output."""
        rows = ((one, other, meter.result()) for (one, other, _), meter in self._meters.items())
        return tuple(
            Distance(output=row.output, one=one, other=other, equal=row.equal, max_lsb=row.max_lsb, count=row.count)
            for one, other, row in rows
        )
