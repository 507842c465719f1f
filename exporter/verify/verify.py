"""The measurements of one run: file against PyTorch, file against the integer interpreter, latency, file facts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from exporter.ir.graph import Graph
from exporter.ir.run import Interpreter
from exporter.recipe import Gates
from exporter.verify import tflite
from exporter.verify.gates import judge
from exporter.verify.latency import measure_latency
from exporter.verify.parity import CodeMeter, SnrMeter
from exporter.verify.results import FileFacts, OpTime, OutsideDelegate, Verification
from exporter.verify.runtimes.litert import LiteRT
from exporter.verify.runtimes.litert_profile import NoProfile, profile

PROFILE_RUNS = 5
DROWNED = 6.0
"""SNR in dB below which an int8 output is called out: the error is half the signal or more."""
TOP_OPS = 8


@dataclass(frozen=True)
class Artifact:
    """A file and the graph it was written from."""

    path: Path
    graph: Graph
    precision: str
    shipped: bool = True


def verify_tflite(
    module: nn.Module,
    artifacts: Sequence[Artifact],
    samples: Iterable[Sequence[Tensor]],
    gates: Gates,
    *,
    note: str = "",
    islands: Mapping[str, str] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Verification:
    """Run every artifact on every sample and compare with eager PyTorch; int8 ones with the integer interpreter too.

    `module` is the float model in eval mode; samples are tuples of float32 [1, ...] tensors.
    """
    runtimes = [LiteRT(a.path) for a in artifacts]
    comparisons = [_Comparison(a) for a in artifacts]
    done, sample = 0, None
    for done, sample in enumerate(samples, 1):
        reference = reference_outputs(module, sample)
        for runtime, comparison in zip(runtimes, comparisons, strict=True):
            comparison.add(sample, reference, comparison.storage.run(runtime, sample))
        progress(done)
    assert sample is not None
    feeds = [c.storage.feed(sample) for c in comparisons]
    each = list(zip(artifacts, runtimes, feeds, strict=True))
    latency = tuple(measure_latency(artifact.precision, runtime, feed) for artifact, runtime, feed in each)
    facts = tuple(_facts(artifact, runtime, feed, islands or {}) for artifact, runtime, feed in each)
    floats = next((c for c in comparisons if c.artifact.precision != "int8"), None)
    int8 = next((c for c in comparisons if c.artifact.precision == "int8"), None)
    result = Verification(
        runtime=f"{runtimes[0].runtime} ({runtimes[0].kernels})",
        samples=done,
        samples_note=note,
        float_parity=tuple(m.result() for m in floats.snr) if floats else (),
        integer_parity=tuple(m.result() for m in int8.codes if m is not None) if int8 else (),
        int8_snr=tuple(m.result() for m in int8.snr) if int8 else (),
        latency=latency,
        files=facts,
        warnings=(*_dead_outputs(int8), *_drowned_outputs(int8)) if int8 else (),
    )
    return result.model_copy(update={"gates": judge(result, gates)})


@torch.no_grad()
def reference_outputs(module: nn.Module, sample: Sequence[Tensor]) -> list[Tensor]:
    """Eager PyTorch's outputs, flattened in order."""
    inputs = (x.clone() for x in sample)  # a model may write to them
    return [leaf for leaf in tree_leaves(module(*inputs)) if isinstance(leaf, Tensor)]


class _Comparison:
    """Meters for every output of one artifact."""

    def __init__(self, artifact: Artifact) -> None:
        self.artifact, self.graph = artifact, artifact.graph
        self.storage = tflite.Storage(artifact.graph)
        self.params = tflite.output_params(artifact.graph)
        self.snr = [SnrMeter(name) for name in artifact.graph.output_names]
        int8 = artifact.precision == "int8"
        self.codes = [
            CodeMeter(name) if int8 and p else None
            for name, p in zip(artifact.graph.output_names, self.params, strict=True)
        ]
        self.interpreter = Interpreter(artifact.graph) if int8 else None

    def add(self, sample: Sequence[Tensor], reference: Sequence[Tensor], results: Sequence[Tensor]) -> None:
        expected = self.interpreter.run(self._codes_in(sample)) if self.interpreter else [None] * len(results)
        for i, (want, got, integer) in enumerate(zip(reference, results, expected, strict=True)):
            params, meter = self.params[i], self.codes[i]
            self.snr[i].add(want, tflite.reals(got, params))
            if meter is not None and params is not None and integer is not None:
                meter.add(tflite.codes(integer, params), tflite.codes(got, params))

    def _codes_in(self, sample: Sequence[Tensor]) -> list[Tensor]:
        return [v.quant.quantize(t) if v.quant else t for v, t in zip(self.graph.inputs, sample, strict=True)]


def _dead_outputs(comparison: _Comparison) -> list[str]:
    return [
        f"output {name} has one code on every sample: it carries no information in int8"
        for name, meter in zip(comparison.graph.output_names, comparison.codes, strict=True)
        if meter is not None and len(meter.codes) < 2
    ]


def _drowned_outputs(comparison: _Comparison) -> list[str]:
    rows = [meter.result() for meter in comparison.snr]
    return [
        f"output {row.output} keeps {row.pooled:.1f} dB in int8: its error is about as large as its signal. "
        "Calibrate on more typical pictures, try other --ranges, or set gates.int8_snr to refuse such a file"
        for row in rows
        if row.pooled is not None and row.pooled < DROWNED
    ]


def _facts(artifact: Artifact, runtime: LiteRT, feed: Sequence[np.ndarray], islands: Mapping[str, str]) -> FileFacts:
    facts = tflite.file_facts(artifact.path, artifact.precision, islands)
    cut = runtime.partitions()
    outside = Counter(op.name for op in cut.undelegated)
    update: dict[str, object] = {"partitions": cut.count}
    shares: Mapping[str, float] = {}
    if artifact.shipped:
        timed = profile(artifact.path, feed, runs=PROFILE_RUNS)
        if isinstance(timed, NoProfile):
            update["profile_note"] = timed.reason
        else:
            shares = timed.by_name(delegated=False)
            counts = Counter(op.name for op in timed.ops)
            slowest = list(timed.by_name().items())[:TOP_OPS]
            update["outside_share"] = timed.outside
            update["top_ops"] = tuple(OpTime(op=op, count=counts[op], share=share) for op, share in slowest)
    update["outside_delegate"] = tuple(
        OutsideDelegate(op=op, count=count, share=shares.get(op)) for op, count in sorted(outside.items())
    )
    return facts.model_copy(update=update)
