"""Runs a .onnx file on onnxruntime's CPU provider, with or without its graph optimiser.

The optimiser joins QDQ pairs into integer kernels. On x86 without VNNI those add pairs of products in 16 bits, which
saturate: int8 results are then wrong. Without the optimiser every op runs in float between the pairs, which is slow and
sound.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from exporter.errors import DataError, RuntimeUnavailable, UnsupportedError
from exporter.verify.devices.facts import Latency
from exporter.verify.processor import processor
from exporter.verify.runtimes.litert import TensorInfo, match
from exporter.verify.runtimes.timing import measure

DTYPES = {"tensor(float)": "float32", "tensor(int8)": "int8", "tensor(uint8)": "uint8", "tensor(int64)": "int64",
          "tensor(int32)": "int32"}  # fmt: skip
ERRORS_ONLY = 3


class OnnxRuntime:
    """A loaded .onnx file. Raises DataError (missing, foreign or broken file), UnsupportedError (an op that the runtime
    lacks), RuntimeUnavailable (no onnxruntime installed).
    """

    def __init__(self, source: Path | bytes, *, threads: int = 1, optimise: bool = True) -> None:
        module, self.runtime = load_runtime()
        self.threads = threads
        self.kernels = "optimised" if optimise else "optimiser off"
        options = module.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = ERRORS_ONLY
        levels = module.GraphOptimizationLevel
        options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
        self._session = _open(module, source, options)
        self.inputs = tuple(_info(node) for node in self._session.get_inputs())
        self.outputs = tuple(_info(node) for node in self._session.get_outputs())

    def run(self, inputs: Mapping[str, np.ndarray] | Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Codes in, codes out, as the file stores them. A wrong name, count, shape or dtype is a UsageError."""
        results = self._session.run(None, self._feed(inputs))
        return {info.name: result for info, result in zip(self.outputs, results, strict=True)}

    def latency(
        self, inputs: Mapping[str, np.ndarray] | Sequence[np.ndarray], *, runs: int = 50, warmup: int = 10
    ) -> Latency:
        """Wall clock of the session's run, copies in and out included."""
        feed = self._feed(inputs)
        return measure(lambda: self._session.run(None, feed), runs=runs, warmup=warmup, threads=self.threads)

    def _feed(self, inputs: Mapping[str, np.ndarray] | Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        return {info.name: array for info, array in zip(self.inputs, match(self.inputs, inputs), strict=True)}


def load_runtime() -> tuple[ModuleType, str]:
    """The module and its name with version, e.g. `onnxruntime 1.32.0`."""
    try:
        return importlib.import_module("onnxruntime"), f"onnxruntime {version('onnxruntime')}"
    except ImportError as error:
        raise RuntimeUnavailable(
            "onnxruntime is not installed", why=str(error), try_='pip install "edge-export[onnx]"'
        ) from error


def multiplies_in_16_bits() -> bool:
    """Whether this host's int8 kernels add pairs of 8-bit products in 16 bits: x86 without VNNI."""
    cpu = processor()
    return "x86" in cpu and "vnni" not in cpu


def _open(module: ModuleType, source: Path | bytes, options: Any) -> Any:
    name = "the model" if isinstance(source, bytes) else str(source)
    if isinstance(source, Path) and not source.is_file():
        raise DataError(f"there is no file {source}")
    try:
        given = source if isinstance(source, bytes) else str(source)
        return module.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes share no other base
        why = " ".join(str(error).split())
        if "NOT_IMPLEMENTED" in why:
            raise UnsupportedError(f"onnxruntime cannot run {name}", why=why) from error
        raise DataError(f"{name} is not an ONNX model that onnxruntime can read", why=why) from error


def _info(node: Any) -> TensorInfo:
    return TensorInfo(node.name, tuple(node.shape), DTYPES.get(node.type, node.type))
