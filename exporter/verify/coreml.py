"""A .mlpackage next to the graph it was written from: on Core ML where this is a Mac, on the reference executor."""

from __future__ import annotations

import hashlib
import math
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from exporter.errors import DataError
from exporter.ir.graph import Graph, Value
from exporter.ir.run import Interpreter
from exporter.ir.tail import border_names
from exporter.lower.coreml.detector import CONFIDENCE, COORDINATES
from exporter.lower.coreml.names import names, normalised
from exporter.quantize.keep_float import KEPT
from exporter.verify.codes import CodesRow
from exporter.verify.detections import detection_outputs
from exporter.verify.parity import SnrMeter
from exporter.verify.results import FileFacts, FloatOp
from exporter.verify.runtimes.coreml import CoreMLRuntime
from exporter.verify.runtimes.mil_reference import NAME, MilReference
from exporter.verify.runtimes.mil_reference.program import Step

PAIRS = frozenset({"quantize", "dequantize"})
BESIDE = PAIRS | {"cast", "identity"}
"""Ops that do not compute."""
COARSE = 50.0
"""dB: what float16 may be expected to leave of an output."""
SYSTEMS = {6: "iOS 15, macOS 12", 7: "iOS 16, macOS 13", 8: "iOS 17, macOS 14", 9: "iOS 18, macOS 15"}
"""Specification version -> the first systems that load it (coremltools/__init__.py)."""


class OpenCoreML:
    """A .mlpackage beside its graph. What needs values inside the file is asked of the reference executor everywhere.

    Core ML takes a picture. The reference executor takes one for an int8 file, whose first codes are about as
    coarse as pixels; for a float file the sample behind the file's own normalisation.
    """

    def __init__(self, path: Path, graph: Graph) -> None:
        self._path, self._graph, self._names = path, graph, names(graph)
        behind = {value.name: self._names[normalised(value.name)] for value in graph.inputs}
        self.reference = MilReference(path, starts=behind)
        self.shipped = CoreMLRuntime(path) if sys.platform == "darwin" else None
        self.runtime = CoreMLRuntime(path, units="CPU_ONLY") if self.shipped else self.reference
        self._detected = detection_outputs(graph)
        self._quantised = any(value.quant is not None for value in graph.values())
        self.arithmetic = "float16" if self.reference.computes_in_float16 else "float32"

    def feed(self, sample: Sequence[Tensor]) -> dict[str, np.ndarray]:
        """What an app gives; for the float file on the reference executor, floats behind the normalisation."""
        if self.runtime is self.reference and not self._quantised:
            return self._as_floats(sample)
        return self.given(sample)

    def given(self, sample: Sequence[Tensor]) -> dict[str, np.ndarray]:
        """Pictures as their nearest pixels."""
        pairs = zip(self._graph.inputs, (tensor.contiguous().numpy() for tensor in sample), strict=True)
        pictures = self.reference.pictures
        return {v.name: self._pixels(v, array) if v.name in pictures else array for v, array in pairs}

    def fetch(self, results: Mapping[str, np.ndarray]) -> list[Tensor]:
        """The outputs in the graph's order; a detector's boxes, classes, scores and number are those of its lists."""
        found = dict(results)
        if self._detected:
            most = self._graph.outputs[self._detected[0]].shape[1]
            named = [self._graph.output_names[i] for i in self._detected]
            found |= dict(zip(named, detections(results, most), strict=True))
        return [torch.from_numpy(np.asarray(found[name])) for name in self._graph.output_names]

    def integer_rows(
        self, sample: Sequence[Tensor], results: Sequence[Tensor], integers: Mapping[str, Tensor]
    ) -> Iterator[CodesRow]:
        """Teacher-forced by the reference executor: every quantize of the file on the interpreter's operands, one row a
        kind of op; see OpenONNX.
        """
        if any(v.name not in integers for node in self._graph.nodes for v in node.outputs):
            return
        quantised = [node for node in self._graph.nodes if node.outputs[0].quant]
        forced = {self._names[node.output.name]: integers[node.output.name].numpy() for node in quantised}
        if lost := [name for name in forced if name not in self.reference.program.types]:
            raise DataError(f"{self._path.name} has no value {lost[0]}", why="it was written from another graph")
        got = self.reference.run_forced(self._as_floats(sample), forced)
        kinds = Counter(node.op.name for node in quantised)
        for node in quantised:
            codes = torch.from_numpy(got[self._names[node.output.name]])
            yield f"{node.op.name} x{kinds[node.op.name]}, op by op", integers[node.output.name], codes

    def facts(
        self, precision: str, feed: Mapping[str, np.ndarray], islands: Mapping[str, str], shipped: bool
    ) -> FileFacts:
        """An op is integer when the value of the graph that it works for is held as codes in the file."""
        steps = self.reference.program.steps
        kinds = Counter(step.op for step in steps) + Counter(self.reference.others)
        int8 = precision == "int8"
        tail, border = self._tail(), self._border()
        working = [s for s in steps if s.op not in BESIDE and s.outputs[0] not in tail | border] if int8 else []
        floats = self._floats(working, islands)
        beside = sum(s.op in BESIDE and s.outputs[0] not in tail | border for s in steps) if int8 else 0
        return FileFacts(
            path=self._path.name,
            precision=precision,
            size_bytes=sum(file.stat().st_size for file in files(self._path)),
            sha256=package_sha256(self._path),
            ops=dict(sorted(kinds.items())),
            integer_ops=len(working) - len(floats),
            border_ops=beside + len(border) if int8 else 0,
            tail_ops=len(tail) + len(self.reference.others) if int8 else 0,
            float_ops=tuple(floats),
            transposes=kinds["transpose"],
            minimum_runtime=SYSTEMS.get(self.reference.version, f"specification version {self.reference.version}"),
        )

    def warnings(self, sample: Sequence[Tensor]) -> list[str]:
        """Where int8 pays, or what float16 costs; and that Core ML did not run, where it did not."""
        told = []
        if self._quantised:
            told.append(
                "Core ML multiplies int8 by int8 on the Neural Engine of A17 Pro, M4 and later; elsewhere the codes "
                "are widened to float16, which saves memory and may cost time"
            )
        elif self.arithmetic == "float16" and not self._detected:
            told += self._lost(sample)
        if self.shipped is None:
            told.append(
                f"the Core ML package was run by the {NAME}: it proves what the file says, not how Apple's kernels "
                "round. On a Mac the same command runs Core ML"
            )
        return told

    def _lost(self, sample: Sequence[Tensor]) -> list[str]:
        """Where float16 leaves an output under `COARSE`: the op that loses most by itself, on rounded operands."""
        seen: dict[str, Tensor] = {}
        expected = Interpreter(self._graph).run(sample, lambda value, tensor: seen.update({value.name: tensor}))
        results = self.fetch(self.reference.run(self._as_floats(sample)))
        outputs = zip(self._graph.output_names, expected, results, strict=True)
        found = {name: _snr(ours, theirs) for name, ours, theirs in outputs}
        worst = min(found, key=found.__getitem__)
        if found[worst] >= COARSE:
            return []
        known = self.reference.program.types
        nodes = {self._names[n.outputs[0].name]: n for n in self._graph.nodes}
        values = {name: seen[n.outputs[0].name] for name, n in nodes.items() if name in known}
        got = self.reference.run_forced(self._as_floats(sample), {name: v.numpy() for name, v in values.items()})
        own = {name: _snr(exact, torch.from_numpy(got[name])) for name, exact in values.items()}
        name = min(own, key=own.__getitem__)
        said = (
            f"output {worst} keeps {found[worst]:.1f} dB in float16. Most is lost in {nodes[name].op.name} "
            f"{nodes[name].source}: {own[name]:.1f} dB by itself. --fp32 keeps what float32 has"
        )
        return [said]

    def _as_floats(self, sample: Sequence[Tensor]) -> dict[str, np.ndarray]:
        """The sample for the reference executor, behind the file's own normalisation."""
        return dict(zip((i.name for i in self.reference.inputs), (t.numpy() for t in sample), strict=True))

    # --- what the file's ops work for --------------------------------------------------------------------------------
    def _floats(self, working: Sequence[Step], islands: Mapping[str, str]) -> list[FloatOp]:
        """Ops whose value the file holds as floats, with the declared reason where there is one."""
        by_name = {self._names[v.name]: v for v in self._graph.values() if v.const is None}
        types, owner = self.reference.program.types, self._owners(set(by_name))
        found = []
        for step in working:
            name = owner.get(step.outputs[0], step.outputs[0])
            if name not in by_name or types[name].dtype not in ("int8", "uint8"):
                reason = islands.get(by_name[name].name, "") if name in by_name else ""
                asked, reason = reason.startswith(KEPT), reason or "its result is float in the file"
                found.append(FloatOp(op=step.op, where=name, reason=reason, asked=asked))
        return found

    def _owners(self, known: set[str]) -> dict[str, str]:
        """Value of the file -> the value of the graph that it is, or is computed for."""
        owner = {name: name for name in known}
        for step in reversed(self.reference.program.steps):
            mine = next((owner[name] for name in step.outputs if name in owner), None)
            for name in step.reads:
                if mine is not None:
                    owner.setdefault(name, mine)
        return owner

    def _tail(self) -> set[str]:
        """First outputs of the ops behind the dequantised heads, where the model's float tail begins."""
        return self._behind({self._names[name] for name in border_names(self._graph)})

    def _border(self) -> set[str]:
        """First outputs of the ops that make the picture a tensor, and of those behind the graph's outputs (labels)."""
        start = {self._names[normalised(value.name)] for value in self._graph.inputs}
        before: set[str] = set()
        for step in reversed(self.reference.program.steps):
            if start & set(step.outputs):
                before.add(step.outputs[0])
                start |= step.reads
        return before | self._behind(set(self._graph.output_names))

    def _behind(self, reached: set[str]) -> set[str]:
        found = set()
        for step in self.reference.program.steps:
            if reached & step.reads:
                reached.update(step.outputs)
                found.add(step.outputs[0])
        return found

    def _pixels(self, value: Value, array: np.ndarray) -> np.ndarray:
        """The picture whose normalisation by the file comes nearest to `array` [1, 3, H, W]: uint8 [H, W, 3]."""
        start = self._names[normalised(value.name)]
        black, white = (self._normalised(value, start, np.float32(level)) for level in (0, 255))
        pixels = np.rint((array - black) / (white - black) * 255).clip(0, 255).astype(np.uint8)
        return np.ascontiguousarray(pixels[0].transpose(1, 2, 0))

    def _normalised(self, value: Value, start: str, level: np.float32) -> np.ndarray:
        """A picture of one level as the file normalises it."""
        program = self.reference.program
        flat = np.full(program.inputs[value.name].shape or (), level)
        return program.value(start, {value.name: flat})


def _snr(expected: Tensor, result: Tensor) -> float:
    """dB; infinite where equal."""
    meter = SnrMeter("")
    meter.add(expected, result.float())
    pooled = meter.result().pooled
    return math.inf if pooled is None else pooled


def open_runtime(path: Path, *, sound: bool = False) -> CoreMLRuntime | MilReference:
    """Core ML where this is a Mac (on the CPU alone with `sound`), else the reference executor."""
    if sys.platform != "darwin":
        return MilReference(path)
    return CoreMLRuntime(path, units="CPU_ONLY" if sound else "CPU_AND_NE")


def files(path: Path) -> list[Path]:
    """The files of a package, in the order of their paths."""
    return sorted(file for file in path.rglob("*") if file.is_file())


def package_sha256(path: Path) -> str:
    """One digest of all files of a folder, their paths included."""
    digest = hashlib.sha256()
    for file in files(path):
        digest.update(
            f"{file.relative_to(path).as_posix()}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode()
        )
    return digest.hexdigest()


def detections(results: Mapping[str, np.ndarray], most: int) -> tuple[np.ndarray, ...]:
    """Boxes y0, x0, y1, x1 [1, M, 4], classes [1, M], scores [1, M] and number [1], zeros behind the last, of what a
    pipeline gives: confidence [N, C], and centre x, centre y, width, height [N, 4]. M is `most`.
    """
    confidence, coordinates = results[CONFIDENCE], results[COORDINATES]
    found = min(len(confidence), most)
    boxes, classes, scores = (np.zeros(shape, np.float32) for shape in ((1, most, 4), (1, most), (1, most)))
    centre, half = coordinates[:found, 1::-1], coordinates[:found, :1:-1] / 2
    boxes[0, :found] = np.concatenate([centre - half, centre + half], 1)
    classes[0, :found], scores[0, :found] = confidence[:found].argmax(1), confidence[:found].max(1, initial=0)
    return boxes, classes, scores, np.array([found], np.float32)
