"""All files of one target on sample after sample: the shipped one, those it is compared with, its body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from exporter.ir.graph import Graph
from exporter.ir.run import Interpreter
from exporter.ir.tail import tail
from exporter.verify.codes import codes, output_params, reals
from exporter.verify.comparison import Artifact, Comparison
from exporter.verify.latency import measure_latency
from exporter.verify.results import Measurements

Tensors = Sequence[Tensor]


@dataclass(frozen=True)
class TargetFiles:
    """What was written for one target: the shipped file first, then those it is compared with.

    `body` is the shipped file's part up to the heads, where a float tail follows.
    """

    target: str
    artifacts: tuple[Artifact, ...]
    body: Artifact | None = None

    @property
    def quantised(self) -> tuple[Graph, ...]:
        """The graphs behind int8 files: the whole one first, which holds every value of the others."""
        files = [*self.artifacts, *([self.body] if self.body else [])]
        return tuple(artifact.graph for artifact in files if artifact.precision == "int8")


class TargetRun:
    """The comparisons of one target."""

    def __init__(self, files: TargetFiles) -> None:
        self.target, self.samples = files.target, 0
        self.latest: dict[str, list[Tensor]] = {}
        """By precision: what each file gave for the last sample, as floats."""
        self._comparisons = [Comparison(artifact) for artifact in files.artifacts]
        self.shipped = self._comparisons[0]
        self._heads = Comparison(files.body) if files.body else None
        self._behind = Interpreter(tail(files.artifacts[0].graph)) if files.body else None

    def add(self, sample: Tensors, reference: Tensors, heads: Tensors, integers: Mapping[str, Tensor]) -> list[Tensor]:
        """Take in one sample: PyTorch's outputs and heads, and the interpreter's codes by value name.

        Returns the codes of the outputs, or of the heads where there are any; none of a float file.
        """
        self.samples += 1
        ends: dict[str, Tensor] = {}
        given: list[Tensor] = []
        if self._heads and self._behind:
            given = self._heads.run(sample)
            self._heads.add(sample, given, heads, integers)
            ends = dict(zip(self._behind.graph.output_names, self._behind.run(self._as_codes(given)), strict=True))
        for comparison in self._comparisons:
            results = comparison.run(sample)
            comparison.add(sample, results, reference, integers, ends if comparison is self.shipped else {})
            given = given or results
            params = output_params(comparison.graph)
            self.latest[comparison.artifact.precision] = [reals(r, of) for r, of in zip(results, params, strict=True)]
        pairs = zip(given, output_params((self._heads or self.shipped).graph), strict=True)
        return [codes(tensor, params) for tensor, params in pairs if params is not None]

    def measurements(self, sample: Tensors, islands: Mapping[str, str]) -> Measurements:
        """Everything, after the last sample, which is timed."""
        each = [(c, c.artifact, c.file.feed(sample)) for c in self._comparisons]
        runtime = self.shipped.file.runtime
        int8 = self._int8()
        floats = [c for c in self._measured() if c not in int8]
        timed = {a.precision: measure_latency(on, feed) for c, a, feed in each if (on := c.file.shipped) is not None}
        return Measurements(
            target=self.target,
            samples=self.samples,
            runtime=f"{runtime.runtime} ({runtime.kernels})",
            float_parity=tuple(row for c in floats for row in c.against_pytorch()),
            integer_parity=tuple(row for c in int8 for row in c.against_integers()),
            int8_snr=tuple(row for c in int8 for row in c.against_pytorch()),
            tail_parity=self.shipped.tail_against_interpreter(),
            detections=tuple(row for c in self._comparisons for row in c.matched()),
            latency={precision: row for precision, row in timed.items() if row is not None},
            files=tuple(c.file.facts(a.precision, feed, islands, a.shipped) for c, a, feed in each),
        )

    def end_warnings(self) -> list[str]:
        """Of int8 outputs that never change, or saturate."""
        return [text for c in self._int8() for text in c.end_warnings()]

    def warnings(self, sample: Tensors) -> list[str]:
        """What users of the shipped file must know of this runtime on this host; of its body, where it has a tail."""
        return self._measured()[0].file.warnings(sample)

    def _as_codes(self, heads: Tensors) -> list[Tensor]:
        """Heads as the interpreter's tail takes them, from a file that gives some of them dequantised."""
        assert self._behind
        pairs = zip(self._behind.graph.inputs, heads, strict=True)
        return [codes(t, v.quant).to(getattr(torch, v.quant.dtype)) if v.quant else t for v, t in pairs]

    def _measured(self) -> list[Comparison]:
        return [*([self._heads] if self._heads else []), *self._comparisons]

    def _int8(self) -> list[Comparison]:
        return [c for c in self._measured() if c.artifact.precision == "int8"]
