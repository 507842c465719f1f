"""Runs a .tflite file on LiteRT (formerly TensorFlow Lite), with or without its XNNPACK delegate.

Kernel sets are not interchangeable: builtin kernels differ from XNNPACK's by up to 13 LSB in int8, and LiteRT 2.14's
from 2.3's, so every figure names `runtime` and `kernels`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from exporter.errors import DataError, ExportError, RuntimeUnavailable, UnsupportedError, UsageError, nearest
from exporter.verify.devices.facts import Latency
from exporter.verify.runtimes.litert_file import FileOp, Signature, broken, read_bytes, read_file
from exporter.verify.runtimes.stderr import without_info
from exporter.verify.runtimes.timing import measure

_PACKAGES = (("ai_edge_litert.interpreter", "ai-edge-litert"), ("tflite_runtime.interpreter", "tflite-runtime"))


@dataclass(frozen=True)
class TensorInfo:
    """An input or output: numpy dtype name; `scale` and `zero_point` are None when it is not quantised."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True)
class Partitions:
    """What XNNPACK took: `count` partitions of a graph of `ops` ops, and the ops left outside."""

    count: int
    ops: int
    undelegated: tuple[FileOp, ...]


class LiteRT:
    """A loaded .tflite file. Single-threaded and delegated to XNNPACK unless told otherwise.

    `inputs` and `outputs` follow the file's signature (`serving_default`, else its first), or the first subgraph where
    it has none. Raises DataError (missing, foreign or broken file), UnsupportedError (an op or version the runtime
    lacks, or a delegate that refuses the file), RuntimeUnavailable (no LiteRT installed).
    """

    def __init__(self, path: Path, *, threads: int = 1, delegate: bool = True) -> None:
        if threads < 1:
            raise UsageError(f"LiteRT cannot run on {threads} threads", try_="threads >= 1")
        module, self.runtime = load_runtime()
        self.path, self.threads, self.delegate = Path(path), threads, delegate
        self.kernels = "xnnpack" if delegate else "builtin"
        resolvers = module.OpResolverType
        read_bytes(self.path)
        self._interpreter = _open(
            module.Interpreter,
            self.path,
            num_threads=threads,
            experimental_op_resolver_type=(
                resolvers.BUILTIN if delegate else resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            ),
        )
        signature = _signature(self.path, self._interpreter)
        self.inputs, self.input_indices = self._describe(self._interpreter.get_input_details(), signature, "inputs")
        self.outputs, self.output_indices = self._describe(self._interpreter.get_output_details(), signature, "outputs")

    def run(self, inputs: Mapping[str, np.ndarray] | Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Codes in, codes out, as the file stores them: nothing is quantised, cast or reshaped on the way.

        `inputs` by name, or in the order of `self.inputs`; a wrong name, count, shape or dtype is a UsageError.
        """
        self._set(inputs)
        self._invoke()
        return {
            info.name: self._interpreter.get_tensor(i)
            for info, i in zip(self.outputs, self.output_indices, strict=True)
        }

    def latency(
        self, inputs: Mapping[str, np.ndarray] | Sequence[np.ndarray], *, runs: int = 50, warmup: int = 10
    ) -> Latency:
        """Wall clock of the interpreter's invoke alone: copies in and out are not counted."""
        self._set(inputs)
        self._invoke()
        return measure(self._interpreter.invoke, runs=runs, warmup=warmup, threads=self.threads)

    def partitions(self) -> Partitions:
        """How XNNPACK cut the first subgraph.

        After delegation the runtime's node list holds the original ops followed by one DELEGATE node per partition.
        A partition's ops are those between that node's outputs and its inputs.
        """
        nodes = self._interpreter._get_ops_details()  # the only view of the execution plan in the Python API
        ops = read_file(self.path).ops
        delegates = [node for node in nodes[len(ops) :] if node["op_name"] == "DELEGATE"]
        producer = {output: op for op in ops for output in op.outputs}
        taken: set[int] = set()
        for node in delegates:
            borders = {int(i) for i in node["inputs"]}
            frontier = [int(o) for o in node["outputs"]]
            while frontier:
                tensor = frontier.pop()
                op = producer.get(tensor)
                if tensor not in borders and op is not None and op.index not in taken:
                    taken.add(op.index)
                    frontier += op.inputs
        return Partitions(len(delegates), len(ops), tuple(op for op in ops if op.index not in taken))

    def _describe(
        self, details: list[dict[str, Any]], signature: Signature | None, side: str
    ) -> tuple[tuple[TensorInfo, ...], tuple[int, ...]]:
        """Inputs or outputs in signature order, with their tensor indices."""
        by_index = {detail["index"]: detail for detail in details}
        named = getattr(signature, side) if signature else [(detail["name"], detail["index"]) for detail in details]
        if len({name for name, _ in named}) != len(named):
            raise DataError(f"{self.path}: two {side} share one name", where=[name for name, _ in named])
        if unknown := [name for name, index in named if index not in by_index]:
            raise DataError(f"{self.path}: the signature names {side} that the graph does not have", where=unknown)
        return tuple(_info(name, by_index[index]) for name, index in named), tuple(index for _, index in named)

    def _set(self, inputs: Mapping[str, np.ndarray] | Sequence[np.ndarray]) -> None:
        arrays = match(self.inputs, inputs)
        for index, array in zip(self.input_indices, arrays, strict=True):
            self._interpreter.set_tensor(index, array)

    def _invoke(self) -> None:
        try:
            self._interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise UnsupportedError(f"{self.runtime} failed while running {self.path}", why=str(error)) from error


def partitions(path: Path) -> Partitions:
    """`LiteRT(path).partitions()`."""
    return LiteRT(path).partitions()


def load_runtime() -> tuple[ModuleType, str]:
    """The interpreter module and its name with version, e.g. `ai-edge-litert 2.3.0`; else tflite-runtime's."""
    reasons = []
    for module, package in _PACKAGES:
        try:
            return importlib.import_module(module), f"{package} {version(package)}"
        except ImportError as error:
            reasons.append(f"{package}: {error}")
    raise RuntimeUnavailable(
        "LiteRT is not installed", why="; ".join(reasons), try_='pip install "ai-edge-litert>=2.1"'
    )


def match(infos: Sequence[TensorInfo], inputs: Mapping[str, np.ndarray] | Sequence[np.ndarray]) -> list[np.ndarray]:
    """The arrays in the order of `infos`; every mismatch in name, count, shape or dtype in one UsageError."""
    names = [info.name for info in infos]
    if isinstance(inputs, Mapping):
        wrong = [f"{name}  no such input  {nearest(name, names)}".rstrip() for name in inputs if name not in names]
        wrong += [f"{name}  missing" for name in names if name not in inputs]
        arrays = [inputs[name] for name in names if name in inputs]
    else:
        arrays = list(inputs)
        wrong = [] if len(arrays) == len(names) else [f"{len(arrays)} arrays given, {len(names)} wanted"]
    if not wrong:
        for info, array in zip(infos, arrays, strict=True):
            given = f"{np.asarray(array).dtype}{list(np.shape(array))}"
            wanted = f"{info.dtype}{list(info.shape)}"
            if given != wanted:
                wrong.append(f"{info.name}  is {given}, must be {wanted}")
    if wrong:
        raise UsageError(
            "the arrays do not fit the model's inputs",
            where=wrong,
            try_="inputs: " + ", ".join(f"{i.name} {i.dtype}{list(i.shape)}" for i in infos),
        )
    return arrays


def _open(interpreter: Any, path: Path, **options: Any) -> Any:
    """Construct and allocate; the runtime's own words go under `why`."""
    try:
        opened = interpreter(str(path), **options)
    except (RuntimeError, ValueError) as error:
        if "Didn't find op" in str(error):
            raise _refused(path, str(error)) from error
        raise broken(path, str(error)) from error
    try:
        with without_info():
            opened.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise _refused(path, str(error)) from error
    return opened


def _refused(path: Path, why: str) -> ExportError:
    why = " ".join(why.split())
    if "Delegate" in why:
        return UnsupportedError(
            f"the XNNPACK delegate refuses {path}",
            why=why,
            try_="LiteRT(path, delegate=False) runs the builtin kernels, which are slower and round differently",
        )
    return UnsupportedError(f"LiteRT cannot prepare {path}", why=why)


def _signature(path: Path, interpreter: Any) -> Signature | None:
    """`serving_default`, else the first signature. The runtime sorts names, so the order comes from the file."""
    try:
        signatures = read_file(path).signatures
    except RuntimeUnavailable:  # tflite-runtime ships no schema: the runtime's own order has to do
        signatures = tuple(
            Signature(key, 0, tuple(maps["inputs"].items()), tuple(maps["outputs"].items()))
            for key, maps in interpreter._get_full_signature_list().items()
        )
    chosen = next((s for s in signatures if s.key == "serving_default"), signatures[0] if signatures else None)
    if chosen is not None and chosen.subgraph != 0:
        raise UnsupportedError(f"{path}: signature {chosen.key} runs subgraph {chosen.subgraph}, only 0 is run")
    return chosen


def _info(name: str, detail: dict[str, Any]) -> TensorInfo:
    parameters = detail["quantization_parameters"]
    quantised = len(parameters["scales"]) > 0
    return TensorInfo(
        name=name,
        shape=tuple(int(d) for d in detail["shape"]),
        dtype=np.dtype(detail["dtype"]).name,
        scale=float(parameters["scales"][0]) if quantised else None,
        zero_point=int(parameters["zero_points"][0]) if quantised else None,
    )
