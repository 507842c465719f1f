"""A .onnx file next to the graph it was written from, on onnxruntime."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor

from exporter.ir.graph import Graph
from exporter.ir.tail import border_names
from exporter.quantize.keep_float import KEPT
from exporter.verify.codes import CodesRow, codes_in, output_params, reals
from exporter.verify.parity import SnrMeter
from exporter.verify.processor import processor
from exporter.verify.readback.onnx import load_model
from exporter.verify.results import FileFacts, FloatOp
from exporter.verify.runtimes.onnxruntime import OnnxRuntime, multiplies_in_16_bits

QDQ = frozenset({"QuantizeLinear", "DequantizeLinear"})
BESIDE = QDQ | {"Cast"}
"""Operators that do not compute: pairs, and casts of constants that are stored in float16."""
GIVEN = "/given"
REDUCED = 64
"""Codes up to this size times 255, twice, are less than 2^15."""


class OpenONNX:
    """A .onnx file on onnxruntime. An int8 one runs without the optimiser: in float between its QDQ pairs, which is
    sound on every host.
    """

    arithmetic = "float32"

    def __init__(self, path: Path, graph: Graph) -> None:
        self._path, self._graph = path, graph
        self._model = load_model(path)
        self.runtime = OnnxRuntime(path, optimise=not is_quantised(self._model))
        self._first: tuple[Sequence[Tensor], Sequence[Tensor]] | None = None
        """A sample and what the file gave for it."""

    @cached_property
    def shipped(self) -> OnnxRuntime:
        """With the optimiser, as an app loads it."""
        return OnnxRuntime(self._path) if is_quantised(self._model) else self.runtime

    def feed(self, sample: Sequence[Tensor]) -> dict[str, np.ndarray]:
        """As the graph has them: ONNX keeps PyTorch's axis order."""
        tensors = codes_in(self._graph, sample)
        return {i.name: t.contiguous().numpy() for i, t in zip(self.runtime.inputs, tensors, strict=True)}

    given = feed

    def fetch(self, results: Mapping[str, np.ndarray]) -> list[Tensor]:
        """The outputs in the graph's order."""
        return [torch.from_numpy(np.asarray(results[name])) for name in self._graph.output_names]

    def integer_rows(
        self, sample: Sequence[Tensor], results: Sequence[Tensor], integers: Mapping[str, Tensor]
    ) -> Iterator[CodesRow]:
        """Teacher-forced: the file cut at its codes, every op on the interpreter's operands, one row a kind of op.

        Between the pairs onnxruntime computes in float and rounds halves to even; in a free run one tie decided
        otherwise flips many codes behind it. Nothing where `integers` does not hold every value.
        """
        graph = self._graph
        if results and self._first is None:
            self._first = sample, results
        if any(v.name not in integers for v in (*graph.inputs, *(v for node in graph.nodes for v in node.outputs))):
            return
        runtime = OnnxRuntime(cut_at_codes(self._model), optimise=False)
        outputs = zip(self._graph.outputs, self._graph.output_names, strict=True)
        names = {value.name: name for value, name in outputs if value.producer is not None}
        given = {names.get(name, name): codes.contiguous() for name, codes in integers.items()}
        got = runtime.run({i.name: given[i.name.removesuffix(GIVEN)].numpy() for i in runtime.inputs})
        kinds = Counter(node.op.name for node in self._graph.nodes if node.outputs[0].quant)
        for node in self._graph.nodes:
            if node.outputs[0].quant:
                name, kind = names.get(node.output.name, node.output.name), node.op.name
                yield f"{kind} x{kinds[kind]}, op by op", given[name], torch.from_numpy(got[name])

    def facts(
        self, precision: str, feed: Mapping[str, np.ndarray], islands: Mapping[str, str], shipped: bool
    ) -> FileFacts:
        """An op counts as integer when its pairs surround it and it is not one of the declared float islands."""
        content, model = self._path.read_bytes(), self._model
        kinds = Counter(node.op_type for node in model.graph.node)
        tail = _behind(model, border_names(self._graph))
        computing = [n for n in model.graph.node if n.op_type not in BESIDE and n.output[0] not in tail]
        floats = _floats(model, self._graph, computing, islands) if precision == "int8" else ()
        opset = next(entry.version for entry in model.opset_import if entry.domain == "")
        return FileFacts(
            path=self._path.name,
            precision=precision,
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            ops=dict(sorted(kinds.items())),
            integer_ops=len(computing) - len(floats) if precision == "int8" else 0,
            border_ops=sum(kinds[kind] for kind in QDQ),
            tail_ops=len(tail),
            float_ops=floats,
            transposes=kinds["Transpose"],
            minimum_runtime=f"opset {opset}, onnxruntime 1.17.0",
        )

    def warnings(self, sample: Sequence[Tensor]) -> list[str]:
        """Where the optimiser's integer kernels saturate on this host, what that leaves of an int8 file's result."""
        if not is_quantised(self._model) or not multiplies_in_16_bits() or _has_small_weights(self._graph):
            return []
        sample, given = self._first or (sample, self.fetch(self.runtime.run(self.feed(sample))))
        losses = {}
        rows = zip(
            self._graph.output_names,
            output_params(self._graph),
            given,
            self.fetch(self.shipped.run(self.feed(sample))),
            strict=True,
        )
        for name, params, sound, fast in rows:
            meter = SnrMeter(name)
            meter.add(reals(sound, params), reals(fast, params))
            losses[name] = meter.result().pooled
        worst = min((loss for loss in losses.values() if loss is not None), default=None)
        if worst is None:
            return []
        said = (
            f"onnxruntime's optimised int8 kernels keep {worst:.1f} dB of what the same file gives without them: this "
            f"processor ({processor()}) has no VNNI, and without it they add pairs of products in 16 bits, which "
            "saturate. ARM and newer x86 processors do not. For such hosts export with --onnx-reduce-range. Every int8 "
            "figure here but the latency is without the optimiser"
        )
        return [said]


def _has_small_weights(graph: Graph) -> bool:
    """Whether weights have 7 bits: then two products with 8-bit codes fit into 16."""
    weights = (n.inputs[1].const for n in graph.nodes if n.op.data_inputs == 1 and n.output.quant)
    return all(w is None or int(w.abs().max()) <= REDUCED for w in weights)


def open_sound(path: Path) -> OnnxRuntime:
    """The file on arithmetic that is right on every host: an int8 one without the optimiser."""
    return OnnxRuntime(path, optimise=not is_quantised(load_model(path)))


def is_quantised(model: Any) -> bool:
    """Whether the model holds pairs."""
    return any(node.op_type in QDQ for node in model.graph.node)


def cut_at_codes(model: Any) -> bytes:
    """A copy of the model with every DequantizeLinear of an activation reading a new input, every code an output."""
    cut = onnx.shape_inference.infer_shapes(model)
    graph = cut.graph
    fixed = {tensor.name for tensor in graph.initializer}
    made = {node.output[0]: None for node in graph.node if node.op_type == "QuantizeLinear"}
    shapes = {info.name: info.type for info in [*graph.value_info, *graph.input, *graph.output]}
    declared = {info.name for info in graph.output}
    added: set[str] = set()
    for node in graph.node:
        codes = node.input[0]
        if node.op_type != "DequantizeLinear" or codes in fixed or codes not in made:
            continue
        node.input[0] = codes + GIVEN
        if codes not in added:
            added.add(codes)
            entry = graph.input.add(name=codes + GIVEN)
            entry.type.CopyFrom(shapes[codes])
    for codes in made:
        if codes not in declared:
            graph.output.add(name=codes).type.CopyFrom(shapes[codes])
    return bytes(cut.SerializeToString())


def _floats(model: Any, graph: Graph, computing: Sequence[Any], islands: Mapping[str, str]) -> tuple[FloatOp, ...]:
    """Operators that work for a value of an island, and those that read a float which no pair gives."""
    names = dict(zip(graph.output_names, (value.name for value in graph.outputs), strict=True))
    owner = {name: name for name in (v.name for v in graph.values())} | names
    for node in reversed(model.graph.node):
        mine = next((owner[name] for name in node.output if name in owner), None)
        if mine is not None:
            for name in node.input:
                owner.setdefault(name, mine)
    stray = {node.output[0] for node in _outside_pairs(model, computing)}
    rows = []
    for node in computing:
        name = node.output[0]
        reason = islands.get(owner.get(name, name), "") or ("reads a float that no pair gives" if name in stray else "")
        if reason:
            rows.append(FloatOp(op=node.op_type, where=name, reason=reason, asked=reason.startswith(KEPT)))
    return tuple(rows)


def _behind(model: Any, names: Set[str]) -> set[str]:
    """First outputs of the operators that depend on the tensors of these names."""
    reached, found = set(names), set()
    for node in model.graph.node:
        if reached & set(node.input):
            reached.update(node.output)
            found.add(node.output[0])
    return found


def _outside_pairs(model: Any, computing: Sequence[Any]) -> Iterator[Any]:
    """Operators that read the model's own float input, which quantised ones never do, or what such a one computed."""
    floats = {info.name for info in model.graph.input if info.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    for node in computing:
        if floats & set(node.input):
            floats.add(node.output[0])
            yield node
