"""The measurements of one run: files against PyTorch and against the integer interpreter, latency, file facts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from torch import Tensor, nn

from exporter.ir.graph import Graph, Value
from exporter.ir.macs import integer_macs
from exporter.ir.run import Interpreter
from exporter.recipe import Gates
from exporter.verify.agreement import agree
from exporter.verify.codes import codes, codes_in, output_params
from exporter.verify.comparison import reference_outputs
from exporter.verify.distance import Distances
from exporter.verify.gates import judge
from exporter.verify.results import Evaluation, Measurements, Verification
from exporter.verify.target import TargetFiles, TargetRun

Watch = Callable[[int, Sequence[Tensor], Mapping[str, Sequence[Tensor]]], None]
"""Takes the number of a sample from 0, the sample, and outputs as floats by what gave them."""
DROWNED = 6.0
"""SNR in dB below which an int8 output is called out: the error is half the signal or more."""


def verify(
    module: nn.Module,
    targets: Sequence[TargetFiles],
    samples: Iterable[Sequence[Tensor]],
    gates: Gates,
    *,
    note: str = "",
    islands: Mapping[str, str] | None = None,
    warnings: Sequence[str] = (),
    evaluation: Evaluation | None = None,
    further: int | None = None,
    progress: Callable[[int], None] = lambda done: None,
    watch: Watch = lambda number, sample, outputs: None,
) -> Verification:
    """Run every file of every target on every sample and compare with eager PyTorch; int8 ones with the integer
    interpreter too, which runs once a sample for all of them.

    `module` is the float model in eval mode; samples are tuples of float32 [1, ...] tensors. A float tail is held
    against the interpreter's from the file's own heads. `warnings` of earlier stages come first in the result's.
    `evaluation` is judged with the rest. Targets behind the first run on the first `further` samples (None: all).
    `watch` sees every sample with what PyTorch and the files of the first target gave for it.
    """
    runs = [TargetRun(files) for files in targets]
    quantised = targets[0].quantised
    integers = Integers(*quantised) if quantised else None
    distances = Distances(integers.names if integers else ())
    done, sample = 0, None
    for done, sample in enumerate(samples, 1):
        reference, heads = reference_outputs(module, sample)
        seen = integers.run(sample) if integers else {}
        now = runs if further is None or done <= further else runs[:1]
        given = {run.target: run.add(sample, reference, heads, seen) for run in now}
        if integers:
            distances.add({**given, "interpreter": integers.outputs(seen)})
        files = {f"{runs[0].target} {precision}": outputs for precision, outputs in runs[0].latest.items()}
        watch(done - 1, sample, {"PyTorch": reference, **files})
        progress(done)
    assert sample is not None
    measured = tuple(run.measurements(sample, islands or {}) for run in runs)
    told = [*warnings, *runs[0].end_warnings(), *_drowned_outputs(measured[0]), *_nothing_found(measured[0])]
    told += [text for run in runs for text in run.warnings(sample)]
    told += _seen_in_calibration(evaluation)
    result = Verification(
        samples=done,
        samples_note=note,
        targets=measured,
        agreement=agree(quantised[0], {f.target: f.artifacts[0].path for f in targets}) if quantised else (),
        distances=distances.result(),
        integer_macs=integer_macs(quantised[0]) if quantised else None,
        evaluation=evaluation,
        warnings=tuple(told),
    )
    return result.model_copy(update={"gates": judge(result, gates)})


class Integers:
    """The integer interpreter's codes: of every value on the first sample, of the outputs alone on those that follow.

    Formats that compute in float between their codes are compared op by op, on one sample: it costs memory and time.
    `parts` are graphs whose values `graph` has too, under the same names.
    """

    def __init__(self, graph: Graph, *parts: Graph) -> None:
        self._interpreter, self._all = Interpreter(graph), True
        self._outputs = {value.name for each in (graph, *parts) for value in each.outputs}
        self._compared = parts[-1] if parts else graph

    @property
    def names(self) -> list[str]:
        """The outputs that are codes, or a dequantize away from them; of the last part where there are any."""
        pairs = zip(self._compared.output_names, output_params(self._compared), strict=True)
        return [name for name, params in pairs if params is not None]

    def outputs(self, seen: Mapping[str, Tensor]) -> list[Tensor]:
        """The codes of `names` among all that `run` gave."""
        pairs = zip(self._compared.outputs, output_params(self._compared), strict=True)
        return [codes(seen[value.name], params) for value, params in pairs if params is not None]

    def run(self, sample: Sequence[Tensor]) -> dict[str, Tensor]:
        """Codes (floats behind a dequantize) by value name."""
        seen: dict[str, Tensor] = {}

        def tap(value: Value, tensor: Tensor) -> None:
            if self._all or value.name in self._outputs:
                seen[value.name] = tensor

        graph = self._interpreter.graph
        self._interpreter.run(codes_in(graph, sample), tap)
        self._all = False
        return seen | {v.name: v.const for v in graph.outputs if v.const is not None}


def _drowned_outputs(found: Measurements) -> list[str]:
    return [
        f"output {row.output} keeps {row.pooled:.1f} dB in int8: its error is about as large as its signal. "
        "Calibrate on more typical pictures, try other --ranges, or set gates.int8_snr to refuse such a file"
        for row in found.int8_snr
        if row.pooled is not None and row.pooled < DROWNED
    ]


def _nothing_found(found: Measurements) -> list[str]:
    if not found.detections or any(row.expected for row in found.detections):
        return []
    return ["no picture holds a detection above nms.score_threshold: nothing could be compared behind the heads"]


def _seen_in_calibration(found: Evaluation | None) -> list[str]:
    if found is None or not found.seen_in_calibration:
        return []
    seen = f"{found.seen_in_calibration} of {found.images} pictures of {found.source} were calibrated on"
    return [f"{seen}: int8 is flattered there. Evaluate on others, or calibrate on others (--calib)"]
