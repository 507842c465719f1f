"""A model file opened on its runtime, beside the graph that it was written from: the same questions to every format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor

from exporter.ir.graph import Graph
from exporter.verify.codes import CodesRow
from exporter.verify.devices.facts import Latency
from exporter.verify.results import FileFacts
from exporter.verify.runtimes.litert import LiteRT, TensorInfo

Arrays = Mapping[str, np.ndarray] | Sequence[np.ndarray]


class Runtime(Protocol):
    """A loaded file. `runtime` is the package with its version, `kernels` what computes in it."""

    runtime: str
    kernels: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """One inference, arrays as the file stores them."""
        ...

    def latency(self, inputs: Arrays, *, runs: int, warmup: int) -> Latency:
        """Wall clock of inferences."""
        ...


class OpenFile(Protocol):
    """What verification asks of a file.

    `arithmetic` is what stands between an int8 file's codes: integer, float32 or float16.
    """

    arithmetic: str

    @property
    def runtime(self) -> Runtime:
        """The file on kernels whose int8 results are right on this host."""
        ...

    @property
    def shipped(self) -> Runtime | None:
        """The file as an app loads it: what is timed. None where no runtime of its format is on this host."""
        ...

    def feed(self, sample: Sequence[Tensor]) -> dict[str, np.ndarray]:
        """By name PyTorch's tensors as the file takes them: codes where it wants codes, in its storage order."""
        ...

    def given(self, sample: Sequence[Tensor]) -> dict[str, np.ndarray]:
        """What an app gives the file: what `feed` does, but pictures where the file takes pictures."""
        ...

    def fetch(self, results: Mapping[str, np.ndarray]) -> list[Tensor]:
        """The file's outputs in the graph's order and PyTorch's axis order; floats or codes as the file gives them."""
        ...

    def integer_rows(
        self, sample: Sequence[Tensor], results: Sequence[Tensor], integers: Mapping[str, Tensor]
    ) -> Iterator[CodesRow]:
        """What an int8 file computed, beside the integer interpreter's codes by value name: of the outputs, or, where
        `integers` holds all, of every value.
        """
        ...

    def facts(
        self, precision: str, feed: Mapping[str, np.ndarray], islands: Mapping[str, str], shipped: bool
    ) -> FileFacts:
        """What can be read off the file, and how the runtime takes it."""
        ...

    def warnings(self, sample: Sequence[Tensor]) -> list[str]:
        """What users of the file must know about this runtime on this host."""
        ...


def open_runtime(path: Path, *, sound: bool = False) -> Runtime:
    """The file on the runtime of its format, as an app would load it; `sound` asks for kernels whose int8 results are
    right on every host, however slow.
    """
    if path.suffix == ".onnx":
        from exporter.verify.onnx import open_sound
        from exporter.verify.runtimes.onnxruntime import OnnxRuntime

        return open_sound(path) if sound else OnnxRuntime(path)
    if path.suffix == ".mlpackage":
        from exporter.verify.coreml import open_runtime as open_coreml

        return open_coreml(path, sound=sound)
    return LiteRT(path)


def open_file(path: Path, graph: Graph) -> OpenFile:
    """The file that was written from `graph`."""
    if path.suffix == ".onnx":
        from exporter.verify.onnx import OpenONNX

        return OpenONNX(path, graph)
    if path.suffix == ".mlpackage":
        from exporter.verify.coreml import OpenCoreML

        return OpenCoreML(path, graph)
    from exporter.verify.tflite import OpenTFLite

    return OpenTFLite(path, graph)
