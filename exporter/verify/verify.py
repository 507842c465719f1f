"""The measurements of one run: file against PyTorch, file against the integer interpreter, latency, file facts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from torch import Tensor, nn

from exporter.ir.run import Interpreter
from exporter.ir.tail import tail
from exporter.recipe import Gates
from exporter.verify.comparison import Artifact, Comparison, reference_outputs
from exporter.verify.gates import judge
from exporter.verify.latency import measure_latency
from exporter.verify.results import Verification

DROWNED = 6.0
"""SNR in dB below which an int8 output is called out: the error is half the signal or more."""


def verify(
    module: nn.Module,
    artifacts: Sequence[Artifact],
    samples: Iterable[Sequence[Tensor]],
    gates: Gates,
    *,
    body: Artifact | None = None,
    note: str = "",
    islands: Mapping[str, str] | None = None,
    warnings: Sequence[str] = (),
    progress: Callable[[int], None] = lambda done: None,
) -> Verification:
    """Run every artifact on every sample and compare with eager PyTorch; int8 ones with the integer interpreter too.

    `module` is the float model in eval mode; samples are tuples of float32 [1, ...] tensors. The first artifact is the
    shipped one. `body` is its part up to the heads where a float tail follows: there precision is lost, if anywhere,
    and the tail is held against the interpreter's from the file's own heads. `warnings` of earlier stages come first in
    the result's.
    """
    comparisons = [Comparison(a) for a in artifacts]
    heads, behind = (Comparison(body), Interpreter(tail(artifacts[0].graph))) if body else (None, None)
    done, sample = 0, None
    for done, sample in enumerate(samples, 1):
        reference, raw = reference_outputs(module, sample)
        ends: dict[str, Tensor] = {}
        if heads and behind:
            given = heads.run(sample)
            heads.add(sample, given, raw)
            ends = dict(zip(behind.graph.output_names, behind.run(given), strict=True))
        for comparison in comparisons:
            comparison.add(sample, comparison.run(sample), reference, ends if comparison is comparisons[0] else {})
        progress(done)
    assert sample is not None
    feeds = [c.file.feed(sample) for c in comparisons]
    each = list(zip(artifacts, comparisons, feeds, strict=True))
    latency = tuple(measure_latency(artifact.precision, c.file.shipped, feed) for artifact, c, feed in each)
    facts = tuple(c.file.facts(a.precision, feed, islands or {}, a.shipped) for a, c, feed in each)
    measured = [*([heads] if heads else []), *comparisons]
    floats = [c for c in measured if c.artifact.precision != "int8"]
    int8 = [c for c in measured if c.artifact.precision == "int8"]
    runtime = comparisons[0].file.runtime
    result = Verification(
        runtime=f"{runtime.runtime} ({runtime.kernels})",
        samples=done,
        samples_note=note,
        float_parity=tuple(row for c in floats for row in c.against_pytorch()),
        integer_parity=tuple(row for c in int8 for row in c.against_integers()),
        int8_snr=tuple(row for c in int8 for row in c.against_pytorch()),
        tail_parity=comparisons[0].tail_against_interpreter(),
        detections=tuple(row for c in comparisons for row in c.matched()),
        latency=latency,
        files=facts,
    )
    told = [*warnings, *(text for c in int8 for text in c.dead()), *_drowned_outputs(result), *_nothing_found(result)]
    told += int8[0].file.warnings(sample) if int8 else []
    result = result.model_copy(update={"warnings": tuple(told)})
    return result.model_copy(update={"gates": judge(result, gates)})


def _drowned_outputs(result: Verification) -> list[str]:
    return [
        f"output {row.output} keeps {row.pooled:.1f} dB in int8: its error is about as large as its signal. "
        "Calibrate on more typical pictures, try other --ranges, or set gates.int8_snr to refuse such a file"
        for row in result.int8_snr
        if row.pooled is not None and row.pooled < DROWNED
    ]


def _nothing_found(result: Verification) -> list[str]:
    if not result.detections or any(row.expected for row in result.detections):
        return []
    return ["no picture holds a detection above nms.score_threshold: nothing could be compared behind the heads"]
