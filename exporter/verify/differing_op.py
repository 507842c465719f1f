"""Where a device begins to compute otherwise: operators of a .tflite file whose codes differ, from equal operands."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np

from exporter.verify.devices import Device, Job, run_job
from exporter.verify.runtimes.litert import LiteRT
from exporter.verify.runtimes.litert_file import read_file

MOST = 3
"""Operators named; what is behind the first has other operands already."""


def differing_ops(path: Path, device: Device, feed: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """One line an operator, in the file's order: kind, output, how far and how often its codes differ.

    The file runs here and there with every int8 tensor as an output, on one sample. Raises what `run_job` raises.
    """
    file = read_file(path)
    with tempfile.TemporaryDirectory() as scratch:
        exposed = Path(scratch, path.name)
        names = expose(path, exposed)
        given = {names[name]: array for name, array in feed.items()}
        ours = LiteRT(exposed).run(given)
        (theirs,) = run_job(device, Job(exposed, [given])).outputs
    changed: set[int] = set()
    told = []
    for op in file.ops:
        codes = next((f"{index}" for index in op.outputs if f"{index}" in ours), None)
        if codes is None:
            changed.update(op.outputs if changed.intersection(op.inputs) else ())
            continue
        apart = np.abs(ours[codes].astype(np.int32) - theirs[codes].astype(np.int32))
        if apart.any():
            if not changed.intersection(op.inputs):
                name, share = file.tensors[op.outputs[0]].name, np.count_nonzero(apart) / apart.size
                told.append(f"{op.name} {name}: {apart.max()} LSB in {100 * share:.3g} % of its codes, operands equal")
            changed.update(op.outputs)
    return tuple(told[:MOST])


def expose(path: Path, place: Path, only: Collection[str] | None = None) -> dict[str, str]:
    """A copy whose outputs are the int8 results of all operators, or of those with tensors named `only`; each is named
    by its tensor's index, and there are no signatures.

    Returns the name of each input of the signature in the copy.
    """
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    graph = model.subgraphs[0]
    inputs = {info.name: index for info, index in _inputs(path)}
    wanted = {i for i, t in enumerate(graph.tensors) if only is None or t.name.decode() in only}
    for index, tensor in enumerate(graph.tensors):
        tensor.name = f"{index}"
    results = [index for op in graph.operators for index in op.outputs]
    graph.outputs = [i for i in results if i in wanted and graph.tensors[i].type == schema.TensorType.INT8]
    model.signatureDefs = []
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    place.write_bytes(bytes(builder.Output()))
    return {name: f"{index}" for name, index in inputs.items()}


def _inputs(path: Path) -> list[tuple[Any, int]]:
    runtime = LiteRT(path)
    return list(zip(runtime.inputs, runtime.input_indices, strict=True))
