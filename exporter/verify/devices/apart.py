"""Which operators of a .tflite give other codes on a device than here: each by itself, from the same random codes.

In the whole file the first difference spreads, and hides where the others begin.
"""

from __future__ import annotations

import copy
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np

from exporter.verify.devices.local import LocalDevice
from exporter.verify.devices.protocol import Device
from exporter.verify.devices.session import Job, run_job
from exporter.verify.runtimes.litert import LiteRT
from exporter.verify.runtimes.litert_file import FileOp, TFLiteFile, read_bytes, read_file

KEY = "serving_default"


@dataclass(frozen=True)
class Apart:
    """One operator: how many of its output's elements differ, and by how many codes at most (floats: by how much)."""

    op: str
    name: str
    elements: int
    differing: int
    most: float


def apart(device: Device, path: Path, *, seed: int = 0) -> list[Apart]:
    """Every operator of the file, in its order, `device` against this machine. Raises what `run_job` raises.

    Those that XNNPACK fuses stay together: a pad with its convolution, a sigmoid with the product of a SiLU.
    """
    file = read_file(path)
    random = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        single = Path(folder, path.name)
        single.write_bytes(_detached(path, file))
        feed = {info.name: _codes(random, info.shape, info.dtype) for info in LiteRT(single).inputs}
        job = Job(single, [feed])
        here, there = (run_job(each, job).outputs[0] for each in (LocalDevice(), device))
    rows = []
    for op in file.ops:
        if _output(op) in here:
            difference = np.abs(here[_output(op)].astype(np.float64) - there[_output(op)])
            name = file.tensors[op.outputs[0]].name
            differing = int(np.count_nonzero(difference))
            rows.append(Apart(op.name, name, difference.size, differing, float(difference.max())))
    return rows


def _codes(random: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    if dtype == "float32":
        return random.standard_normal(shape, np.float32)
    limits = np.iinfo(dtype)
    return random.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def _detached(path: Path, file: TFLiteFile) -> bytes:
    """The file with inputs of its own for every operator, and all of their outputs as outputs."""
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.ModelT.InitFromObj(schema.Model.GetRootAs(read_bytes(path), 0))
    graph = model.subgraphs[0]
    fused = _fused(file)
    inputs: list[int] = []
    new: dict[tuple[int, int], int] = {}
    for op, stored in zip(file.ops, graph.operators, strict=True):
        group = fused.get(op.index, op.index)  # a pair has its inputs in common
        within = {mate.outputs[0] for mate in file.ops if fused.get(mate.index) == op.index}
        for tensor in op.inputs:
            open_ = tensor >= 0 and not file.tensors[tensor].constant and tensor not in within
            if open_ and (group, tensor) not in new:
                graph.tensors.append(copy.copy(graph.tensors[tensor]))
                graph.tensors[-1].name = f"input{len(inputs)}"
                new[group, tensor] = len(graph.tensors) - 1
                inputs.append(new[group, tensor])
        stored.inputs = [t if t in within else new.get((group, t), t) for t in op.inputs]
    outputs = {_output(op): op.outputs[0] for op in file.ops if op.index not in fused}
    graph.inputs, graph.outputs = inputs, list(outputs.values())
    named = {f"input{number}": tensor for number, tensor in enumerate(inputs)}
    model.signatureDefs = [
        schema.SignatureDefT(
            signatureKey=KEY,
            subgraphIndex=0,
            inputs=[schema.TensorMapT(name, tensor) for name, tensor in named.items()],
            outputs=[schema.TensorMapT(name, tensor) for name, tensor in outputs.items()],
        )
    ]
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _fused(file: TFLiteFile) -> dict[int, int]:
    """Operators that XNNPACK computes within the only one that uses their output: index -> index."""
    users: dict[int, list[FileOp]] = {}
    for op in file.ops:
        for tensor in set(op.inputs):
            users.setdefault(tensor, []).append(op)
    found = {}
    for op in file.ops:
        following = users.get(op.outputs[0], [])
        if len(following) != 1 or op.outputs[0] in file.outputs:
            continue
        (user,) = following
        pad = op.name == "PAD" and user.name in ("CONV_2D", "DEPTHWISE_CONV_2D")
        silu = op.name == "LOGISTIC" and user.name == "MUL" and op.inputs[0] in user.inputs
        if pad or silu:
            found[op.index] = user.index
    return found


def _output(op: FileOp) -> str:
    return f"output{op.index}"
