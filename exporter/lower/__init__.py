"""Stage lower: a graph becomes a file. One target is one file or folder; this registry is all that others see."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from exporter.errors import UsageError, nearest
from exporter.ir.graph import Graph, Node
from exporter.lower.facts import Facts


class Target(Protocol):
    """A file format. `write` takes a checked graph, float or quantised, and leaves one file at `path`."""

    suffix: str

    def unsupported(self, graph: Graph) -> list[tuple[Node, str]]:
        """(node, reason) for each node that cannot be written."""
        ...

    def write(self, graph: Graph, path: Path, facts: Facts) -> None:
        """Write the file, deterministically."""
        ...


NAMES = ("tflite",)
PLANNED = ("onnx", "coreml")


def target(name: str) -> Target:
    """The target of that name. Raises UsageError for an unknown one."""
    if name == "tflite":
        from exporter.lower.tflite import TFLite

        return TFLite()
    raise UsageError(
        f"unknown target {name!r}",
        why=f"{name} is not written yet" if name in PLANNED else nearest(name, NAMES),
        try_=f"--target {' | '.join(NAMES)}",
    )
