"""Stage lower: a graph becomes a file. One target is one file or folder; this registry is all that others see."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from exporter.errors import RuntimeUnavailable, UsageError, nearest

if TYPE_CHECKING:  # `edge-export --help` names the formats and needs no torch
    from exporter.ir.graph import Graph, Node
    from exporter.lower.facts import Facts


class Target(Protocol):
    """A file format. `write` takes a checked graph, float or quantised, and leaves one file at `path`.

    `floats` is the precision in which it ships floats unless asked otherwise, `precisions` are all that it writes.
    """

    suffix: str
    floats: str
    precisions: frozenset[str]

    def check(self, precision: str) -> None:
        """Raises UsageError for a precision that cannot be had."""
        ...

    def unsupported(self, graph: Graph) -> list[tuple[Node, str]]:
        """(node, reason) for each node that cannot be written."""
        ...

    def write(self, graph: Graph, path: Path, facts: Facts) -> None:
        """Write the file, deterministically."""
        ...


NAMES = ("tflite", "onnx", "coreml")


def require(name: str, precision: str, precisions: frozenset[str]) -> None:
    """`Target.check` for a format in which every one of its precisions can always be had."""
    if precision not in precisions:
        raise UsageError(f"{name} cannot be written in {precision}", try_=f"one of {', '.join(sorted(precisions))}")


def target(name: str, min_os: int | None = None) -> Target:
    """The target of that name. `min_os` is the oldest iOS that is to run a Core ML file.

    Raises UsageError for an unknown one, RuntimeUnavailable where its package is absent.
    """
    if name == "tflite":
        from exporter.lower.tflite import TFLite

        return TFLite()
    if name == "onnx":
        try:
            from exporter.lower.onnx import ONNX
        except ImportError as error:
            raise RuntimeUnavailable(
                "the target onnx needs a package that is absent", why=str(error), try_='pip install "edge-export[onnx]"'
            ) from error

        return ONNX()
    if name == "coreml":
        try:
            from exporter.lower.coreml import CoreML
        except ImportError as error:
            raise RuntimeUnavailable(
                "the target coreml needs a package that is absent",
                why=str(error),
                try_='pip install "edge-export[coreml]"',
            ) from error

        return CoreML(min_os)
    raise UsageError(
        f"unknown target {name!r}",
        why=nearest(name, NAMES),
        try_=f"--target {' | '.join(NAMES)}",
    )
