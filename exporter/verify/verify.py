"""The measurements of one run: file against PyTorch, file against the integer interpreter, latency, file facts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from exporter.ir.graph import Graph
from exporter.recipe import Gates
from exporter.verify.codes import codes, output_params, reals
from exporter.verify.files import open_file
from exporter.verify.gates import judge
from exporter.verify.latency import measure_latency
from exporter.verify.parity import CodeMeter, SnrMeter
from exporter.verify.results import Verification

DROWNED = 6.0
"""SNR in dB below which an int8 output is called out: the error is half the signal or more."""


@dataclass(frozen=True)
class Artifact:
    """A file and the graph it was written from."""

    path: Path
    graph: Graph
    precision: str
    shipped: bool = True


def verify(
    module: nn.Module,
    artifacts: Sequence[Artifact],
    samples: Iterable[Sequence[Tensor]],
    gates: Gates,
    *,
    note: str = "",
    islands: Mapping[str, str] | None = None,
    warnings: Sequence[str] = (),
    progress: Callable[[int], None] = lambda done: None,
) -> Verification:
    """Run every artifact on every sample and compare with eager PyTorch; int8 ones with the integer interpreter too.

    `module` is the float model in eval mode; samples are tuples of float32 [1, ...] tensors. `warnings` of earlier
    stages come first in the result's.
    """
    comparisons = [_Comparison(a) for a in artifacts]
    done, sample = 0, None
    for done, sample in enumerate(samples, 1):
        reference = reference_outputs(module, sample)
        for comparison in comparisons:
            comparison.add(sample, reference)
        progress(done)
    assert sample is not None
    feeds = [c.file.feed(sample) for c in comparisons]
    each = list(zip(artifacts, comparisons, feeds, strict=True))
    latency = tuple(measure_latency(artifact.precision, c.file.shipped, feed) for artifact, c, feed in each)
    facts = tuple(c.file.facts(a.precision, feed, islands or {}, a.shipped) for a, c, feed in each)
    floats = next((c for c in comparisons if c.artifact.precision != "int8"), None)
    int8 = next((c for c in comparisons if c.artifact.precision == "int8"), None)
    runtime = comparisons[0].file.runtime
    result = Verification(
        runtime=f"{runtime.runtime} ({runtime.kernels})",
        samples=done,
        samples_note=note,
        float_parity=tuple(m.result() for m in floats.snr) if floats else (),
        integer_parity=tuple(m.result() for m in int8.codes.values()) if int8 else (),
        int8_snr=tuple(m.result() for m in int8.snr) if int8 else (),
        latency=latency,
        files=facts,
        warnings=(*warnings, *_dead_outputs(int8), *_drowned_outputs(int8), *int8.file.warnings(sample))
        if int8
        else tuple(warnings),
    )
    return result.model_copy(update={"gates": judge(result, gates)})


@torch.no_grad()
def reference_outputs(module: nn.Module, sample: Sequence[Tensor]) -> list[Tensor]:
    """Eager PyTorch's outputs, flattened in order."""
    inputs = (x.clone() for x in sample)  # a model may write to them
    return [leaf for leaf in tree_leaves(module(*inputs)) if isinstance(leaf, Tensor)]


class _Comparison:
    """Meters for every output of one artifact, and for the rows of its integer parity."""

    def __init__(self, artifact: Artifact) -> None:
        self.artifact, self.graph = artifact, artifact.graph
        self.file = open_file(artifact.path, artifact.graph)
        self.params = output_params(artifact.graph)
        self.snr = [SnrMeter(name) for name in artifact.graph.output_names]
        self.codes: dict[str, CodeMeter] = {}
        self.seen: dict[str, set[int]] = {}
        """The smallest and the largest code of each sample: one code alone means that the output never changed."""

    def add(self, sample: Sequence[Tensor], reference: Sequence[Tensor]) -> None:
        results = self.file.fetch(self.file.runtime.run(self.file.feed(sample)))
        for meter, want, got, params in zip(self.snr, reference, results, self.params, strict=True):
            meter.add(want, reals(got, params))
            if params is not None:
                ends = torch.aminmax(codes(got, params))
                self.seen.setdefault(meter.output, set()).update(int(code) for code in ends)
        if self.artifact.precision == "int8":
            for name, expected, given in self.file.integer_rows(sample, results):
                self.codes.setdefault(name, CodeMeter(name)).add(expected, given)


def _dead_outputs(comparison: _Comparison) -> list[str]:
    return [
        f"output {name} has one code on every sample: it carries no information in int8"
        for name, seen in comparison.seen.items()
        if len(seen) < 2
    ]


def _drowned_outputs(comparison: _Comparison) -> list[str]:
    rows = [meter.result() for meter in comparison.snr]
    return [
        f"output {row.output} keeps {row.pooled:.1f} dB in int8: its error is about as large as its signal. "
        "Calibrate on more typical pictures, try other --ranges, or set gates.int8_snr to refuse such a file"
        for row in rows
        if row.pooled is not None and row.pooled < DROWNED
    ]
