"""One file on sample after sample: its outputs against PyTorch's and against the integer interpreter's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from exporter.build.postprocess import Decoded
from exporter.ir.graph import Graph
from exporter.verify.codes import codes, output_params, reals
from exporter.verify.detections import SAME, SIMILAR, DetectionMeter, detection_outputs
from exporter.verify.ends import Ends
from exporter.verify.files import OpenFile, open_file
from exporter.verify.parity import CodeMeter, SnrMeter
from exporter.verify.results import Codes, Matched, Snr

Tensors = Sequence[Tensor]
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Artifact:
    """A file and the graph it was written from."""

    path: Path
    graph: Graph
    precision: str
    shipped: bool = True
    _first: list[Arrays] = field(default_factory=list, compare=False, repr=False)

    @cached_property
    def opened(self) -> OpenFile:
        """The file on its runtime, opened once."""
        return open_file(self.path, self.graph)

    def results(self, arrays: Arrays) -> Arrays:
        """What the file gives. The first answer is kept: golden files want it again."""
        if not self._first:
            self._first.extend([arrays, self.opened.runtime.run(arrays)])
        given, found = self._first
        same = given.keys() == arrays.keys() and all(np.array_equal(given[name], arrays[name]) for name in given)
        return found if same else self.opened.runtime.run(arrays)


@torch.no_grad()
def reference_outputs(module: nn.Module, sample: Tensors) -> tuple[list[Tensor], list[Tensor]]:
    """Eager PyTorch's outputs, and a detector's heads before post-processing (none of another model), in order."""
    inputs = [x.clone() for x in sample]  # a model may write to them
    if not isinstance(module, Decoded):
        return _tensors(module(*inputs)), []
    heads = module.detector(*inputs)
    return _tensors(module.finish(heads)), _tensors(heads)


def _tensors(result: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]


class Comparison:
    """Meters for every output of one artifact: SNR in dB, codes in LSB, detections in pairs.

    An int8 file's codes are held against the interpreter's, and so is a tail behind a body of less than float32.
    """

    def __init__(self, artifact: Artifact) -> None:
        self.artifact, self.graph = artifact, artifact.graph
        self.file = artifact.opened
        self._params = output_params(self.graph)
        self._detected = detection_outputs(self.graph)
        names, behind = self.graph.output_names, self.graph.tail()
        self._reduced = artifact.precision != "float32"
        self._snr = {i: SnrMeter(name) for i, name in enumerate(names) if i not in self._detected}
        in_tail = [i for i in self._snr if self._reduced and self.graph.outputs[i].producer in behind]
        self._tail = {i: SnrMeter(names[i]) for i in in_tail}
        self._codes: dict[str, CodeMeter] = {}
        coded = {i: params for i in self._snr if (params := self._params[i]) is not None}
        self._ends = {i: Ends(names[i], params) for i, params in coded.items()}
        self._of_pytorch = DetectionMeter(artifact.precision, "PyTorch", SIMILAR if self._reduced else SAME)
        self._of_interpreter = DetectionMeter(artifact.precision, "interpreter", SAME)

    def run(self, sample: Tensors) -> list[Tensor]:
        """What the file gives for float inputs."""
        return self.file.fetch(self.artifact.results(self.file.feed(sample)))

    def add(
        self,
        sample: Tensors,
        results: Tensors,
        reference: Tensors,
        integers: Mapping[str, Tensor],
        ends: Mapping[str, Tensor] = {},
    ) -> None:
        """Take in one sample: what the file gave, PyTorch's floats (none: unknown), the interpreter's codes by value
        name, and its tail.
        """
        for i, meter in self._snr.items():
            params = self._params[i]
            if reference:
                meter.add(reference[i], reals(results[i], params))
            if params is not None:
                self._ends[i].add(codes(results[i], params), reference[i] if reference else None)
        if self.artifact.precision == "int8" and self._ends:
            for name, expected, codes_given in self.file.integer_rows(sample, results, integers):
                self._codes.setdefault(name, CodeMeter(name, self.file.arithmetic)).add(expected, codes_given)
        if ends:
            for i, meter in self._tail.items():
                meter.add(ends[meter.output], results[i])
        if self._detected:
            given = [results[i] for i in self._detected]
            self._of_pytorch.add([reference[i] for i in self._detected], given)
            if ends:
                self._of_interpreter.add([ends[self.graph.output_names[i]] for i in self._detected], given)

    def against_pytorch(self) -> tuple[Snr, ...]:
        """Every output that is no detection."""
        return tuple(meter.result() for meter in self._snr.values() if meter.each)

    def against_integers(self) -> tuple[Codes, ...]:
        """Codes against the integer interpreter's."""
        return tuple(meter.result() for meter in self._codes.values())

    def tail_against_interpreter(self) -> tuple[Snr, ...]:
        """Every output of the float tail that is no detection, where the body is less than float32."""
        return tuple(meter.result() for meter in self._tail.values() if meter.each)

    def matched(self) -> tuple[Matched, ...]:
        """The detections."""
        meters = (self._of_interpreter, self._of_pytorch) if self._reduced else (self._of_pytorch,)
        return tuple(meter.result() for meter in meters) if self._detected else ()

    def end_warnings(self) -> list[str]:
        """Of int8 outputs that never change, or saturate."""
        return [text for ends in self._ends.values() for text in ends.warnings()]
