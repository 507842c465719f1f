"""A .tflite file next to the graph it was written from: storage order in and out, and the facts of the file."""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from exporter.ir.graph import Graph, Value
from exporter.ir.run import Interpreter
from exporter.ir.tail import border_names
from exporter.lower.tflite.layout import Layouts
from exporter.lower.tflite.versions import minimum_runtime
from exporter.quantize.keep_float import KEPT
from exporter.verify.codes import CodesRow, codes, codes_in, output_params
from exporter.verify.differing_op import expose
from exporter.verify.results import FileFacts, FloatOp, OpTime, OutsideDelegate
from exporter.verify.runtimes.litert import LiteRT
from exporter.verify.runtimes.litert_file import FileOp, TFLiteFile, read_file
from exporter.verify.runtimes.litert_profile import NoProfile, profile

BORDERS = frozenset({"QUANTIZE", "DEQUANTIZE"})
PROFILE_RUNS = 5
TOP_OPS = 8


class Storage:
    """How a graph's inputs and outputs lie in the file that was written from it."""

    def __init__(self, graph: Graph) -> None:
        layouts = Layouts(graph)
        self.graph = graph
        self._inputs = [layouts.is_nhwc(value) for value in graph.inputs]
        self._outputs = [layouts.is_nhwc(value) for value in graph.outputs]

    def feed(self, sample: Sequence[Tensor]) -> list[np.ndarray]:
        """The inputs (float32 or codes) as the file takes them: quantised where it wants codes, in its order."""
        tensors = zip(self._inputs, codes_in(self.graph, sample), strict=True)
        return [np.ascontiguousarray((t.permute(0, 2, 3, 1) if nhwc else t).numpy()) for nhwc, t in tensors]

    def fetch(self, results: Mapping[str, np.ndarray]) -> list[Tensor]:
        """The file's outputs in the graph's order, shape and axis order; floats or codes as the file gives them."""
        tensors = [torch.from_numpy(np.asarray(results[name])) for name in self.graph.output_names]
        return [t.permute(0, 3, 1, 2) if nhwc else t for t, nhwc in zip(tensors, self._outputs, strict=True)]


class OpenTFLite:
    """A .tflite file on LiteRT, beside its graph."""

    arithmetic = "integer"

    def __init__(self, path: Path, graph: Graph) -> None:
        self.runtime = self.shipped = LiteRT(path)
        self.storage = Storage(graph)
        self.fetch = self.storage.fetch
        self._path, self._graph = path, graph

    def feed(self, sample: Sequence[Tensor]) -> dict[str, np.ndarray]:
        """As `Storage` lays them out."""
        return {info.name: array for info, array in zip(self.runtime.inputs, self.storage.feed(sample), strict=True)}

    given = feed

    def integer_rows(
        self, sample: Sequence[Tensor], results: Sequence[Tensor], integers: Mapping[str, Tensor]
    ) -> Iterator[CodesRow]:
        """Free-running: every output's codes from the interpreter and from the file.

        Behind a float island the interpreter goes on from the file's codes: two float kernels may round to neighbouring
        ones, and one of these flips many others in a deep network. Those at the islands' ends are a row of their own.
        """
        if self._ends:
            file, seen = self._codes_at_ends(sample), dict[str, Tensor]()
            self._interpreter.run(
                codes_in(self._graph, sample), lambda value, tensor: seen.update({value.name: tensor}), file
            )
            integers = seen
            for name, given in file.items():
                yield f"float islands x{len(file)}", seen[name], given
        outputs = zip(self._graph.output_names, self._graph.outputs, strict=True)
        rows = zip(outputs, output_params(self._graph), results, strict=True)
        for (name, value), params, theirs in rows:
            if params is not None:
                yield name, codes(integers[value.name], params), codes(theirs, params)

    @cached_property
    def _interpreter(self) -> Interpreter:
        return Interpreter(self._graph)

    @cached_property
    def _ends(self) -> dict[str, Value]:
        """Name of the tensor -> the codes that a float island gives."""
        named = {id(v): name for name, v in zip(self._graph.output_names, self._graph.outputs, strict=True)}
        quantised = (node for node in self._graph.nodes if node.op.name == "quantize" and node.inputs[0].producer)
        found = [node.output for node in quantised if node.inputs[0].quant is None]
        return {named.get(id(value), value.name): value for value in found}

    def _codes_at_ends(self, sample: Sequence[Tensor]) -> dict[str, Tensor]:
        """By name of the value, from a copy of the file that has them as outputs, in PyTorch's axis order."""
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(scratch, self._path.name)
            names = expose(self._path, copy, self._ends)
            given = LiteRT(copy).run({names[name]: array for name, array in self.feed(sample).items()})
        layouts, found = Layouts(self._graph), {}
        for index, tensor in enumerate(read_file(self._path).tensors):
            if (value := self._ends.get(tensor.name)) is not None and f"{index}" in given:
                codes = torch.from_numpy(given[f"{index}"])
                found[value.name] = codes.permute(0, 3, 1, 2) if layouts.is_nhwc(value) else codes
        return found

    def facts(
        self, precision: str, feed: Mapping[str, np.ndarray], islands: Mapping[str, str], shipped: bool
    ) -> FileFacts:
        """What the file says about itself, how XNNPACK cuts it, and where a shipped one spends its time."""
        cut = self.runtime.partitions()
        outside = Counter(op.name for op in cut.undelegated)
        update: dict[str, object] = {"partitions": cut.count}
        shares: Mapping[str, float] = {}
        if shipped:
            timed = profile(self._path, list(feed.values()), runs=PROFILE_RUNS)
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
        return file_facts(self._path, self._graph, precision, islands).model_copy(update=update)

    def warnings(self, sample: Sequence[Tensor]) -> list[str]:
        """None: XNNPACK's int8 is the interpreter's on every host."""
        return []


def file_facts(path: Path, graph: Graph, precision: str, islands: Mapping[str, str]) -> FileFacts:
    """What the file that was written from `graph` says about itself. `islands` gives reasons for float ops by the name
    of their output; the model's own float tail is counted apart.
    """
    file = read_file(path)
    content = path.read_bytes()
    tail_border, tail = tail_ops(file, graph) if precision == "int8" else (set(), set())
    integer, borders, floats = 0, 0, []
    outputs = zip(graph.output_names, graph.outputs, strict=True)
    named = {**islands, **{name: islands[value.name] for name, value in outputs if value.name in islands}}
    for op in file.ops:
        if op.index in tail:
            continue
        if op.index in tail_border or _is_border(file, op):
            borders += 1
        elif _works_on_floats(file, op):
            floats.append(op)
        else:
            integer += 1
    return FileFacts(
        path=path.name,
        precision=precision,
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        ops=dict(sorted(Counter(op.name for op in file.ops).items())),
        integer_ops=integer,
        border_ops=borders if precision == "int8" else 0,
        tail_ops=len(tail),
        float_ops=_float_rows(file, floats, named) if precision == "int8" else (),
        transposes=sum(op.name == "TRANSPOSE" for op in file.ops),
        minimum_runtime=minimum_runtime({(op.name, op.version) for op in file.ops if not op.custom}),
    )


def _float_rows(file: TFLiteFile, floats: Sequence[FileOp], named: Mapping[str, str]) -> tuple[FloatOp, ...]:
    """Each with the reason of its result, or of what reads it: one op of the graph may be several of the file."""
    where = {op.index: file.tensors[op.outputs[0]].name for op in floats}
    readers = {op.index: [other for other in floats if set(op.outputs) & set(other.inputs)] for op in floats}
    reasons: dict[int, str] = {}
    for op in reversed(floats):
        behind = [reasons[other.index] for other in readers[op.index]]
        reasons[op.index] = named.get(where[op.index], next((reason for reason in behind if reason), ""))
    for op in floats:  # quantize reads an island
        if op.name == "QUANTIZE":
            ahead = [reasons[other.index] for other in floats if set(other.outputs) & set(op.inputs)]
            reasons[op.index] = next(iter(ahead), "")
    return tuple(
        FloatOp(
            op=op.name,
            where=where[op.index],
            reason="beside a float op" if op.name in BORDERS else reasons[op.index],
            asked=reasons[op.index].startswith(KEPT),
        )
        for op in floats
    )


def tail_ops(file: TFLiteFile, graph: Graph) -> tuple[set[int], set[int]]:
    """Indices of the operators at the border of the float tail (DEQUANTIZE), and of those behind it.

    The border is where the quantised graph says so; what lies behind is found in the file itself.
    """
    names = border_names(graph)
    border = {op.index for op in file.ops if file.tensors[op.outputs[0]].name in names}
    reached = {file.ops[i].outputs[0] for i in border}
    behind = set()
    for op in file.ops:
        if reached & set(op.inputs):
            behind.add(op.index)
            reached.update(op.outputs)
    return border, behind


def _is_border(file: TFLiteFile, op: FileOp) -> bool:
    """A conversion at the model's own float or uint8 input or output; those of a float island are not."""
    source, result = op.inputs[0], op.outputs[0]
    into = op.name == "QUANTIZE" and source in file.inputs and file.tensors[source].dtype != "int8"
    return into or (op.name in BORDERS and result in file.outputs and file.tensors[result].dtype != "int8")


def _works_on_floats(file: TFLiteFile, op: FileOp) -> bool:
    return any(file.tensors[i].dtype.startswith("float") for i in (*op.inputs, *op.outputs) if i >= 0)
