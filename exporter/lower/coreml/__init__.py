"""Core ML: an .mlpackage with a MIL program, written op by op from the graph.

float16 (arithmetic and weights), float32, int8 (W8A8: the graph's own parameters and integer weights between float16
operations) and weights-int8 (float16 arithmetic, int8 weights).
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from exporter.errors import UsageError
from exporter.ir.graph import Graph, Node
from exporter.lower import require
from exporter.lower.coreml import detection
from exporter.lower.coreml import spellings as spellings
from exporter.lower.coreml.description import takes_picture
from exporter.lower.coreml.emit import OPSETS, SPELLINGS, Emitter
from exporter.lower.coreml.names import is_identifier
from exporter.lower.coreml.package import write_package
from exporter.lower.coreml.weights import FILE, Weights
from exporter.lower.facts import Facts

FLOORS = {
    "float32": (15, "ML programs"),
    "float16": (15, "ML programs"),
    "weights-int8": (16, "weights that are stored as int8"),
    "int8": (17, "quantised activations"),
}
"""Precision -> the first iOS that has it, and what it has."""
HIGHEST_RANK = 5


@dataclass(frozen=True)
class Program:
    """A MIL program whose large constants are in `weights`, the file weight.bin."""

    proto: Any
    weights: Path


class CoreML:
    """The target `coreml`.

    `min_os` is the oldest iOS that is to run the file, 15 to 18 (None: the oldest that can). `arithmetic` float32
    writes the twin of a float16 or int8 file that computes in float32, for tests.
    """

    suffix = ".mlpackage"
    floats = "float16"
    precisions = frozenset(FLOORS)
    ops = frozenset(SPELLINGS)

    def __init__(self, min_os: int | None = None, arithmetic: Literal["float16", "float32"] | None = None) -> None:
        if min_os is not None and min_os not in OPSETS:
            raise UsageError(
                f"iOS {min_os} is no version that a file can be written for",
                why=f"ML programs came with iOS {min(OPSETS)}; iOS {max(OPSETS)} runs the newest form written here",
                try_=f"--min-os {min(OPSETS)} to {max(OPSETS)}",
            )
        self.min_os, self.arithmetic = min_os, arithmetic

    def unsupported(self, graph: Graph) -> list[tuple[Node, str]]:
        """(node, reason) for each node that MIL cannot express. Raises UsageError for what Core ML cannot call or hold
        at the model's border.
        """
        _check_border(graph)
        refused = []
        for node in graph.nodes:
            rank = max(len(v.shape) for v in [*node.inputs, *node.outputs])
            if node.op.name not in SPELLINGS:
                refused.append((node, "no MIL spelling is known"))
            elif rank > HIGHEST_RANK:
                refused.append((node, f"a tensor of rank {rank}: Core ML holds {HIGHEST_RANK} at most"))
            elif node.op.name == "detection_postprocess" and (reason := detection.refusal(graph, node)):
                refused.append((node, reason))
        return refused

    def check(self, precision: str) -> None:
        """Raises UsageError for another than `precisions`, or one that came later than `min_os`."""
        require("coreml", precision, self.precisions)
        self.opset(precision)

    def opset(self, precision: str) -> int:
        """The iOS that the file is written for. Raises UsageError where `min_os` is older than the precision."""
        oldest, reason = FLOORS[precision]
        if self.min_os is not None and self.min_os < oldest:
            raise UsageError(
                f"{precision} needs iOS {oldest}, and --min-os is {self.min_os}",
                why=f"iOS {oldest} is the first with {reason}",
                try_=[f"--min-os {oldest}", *(["--fp16"] if precision != "float16" else [])],
            )
        return self.min_os or oldest

    def write(self, graph: Graph, path: Path, facts: Facts) -> None:
        """Write the package `path`: names and order of the model, the same bytes on every run.

        Outside it is float32: inputs that the graph has in codes are quantised first, outputs dequantised last.
        """
        min_os = self.opset(facts.precision)
        with tempfile.TemporaryDirectory() as folder:
            program = self.program(graph, Path(folder), facts)
            write_package(path, program.proto, program.weights, graph, facts, min_os)

    def program(self, graph: Graph, folder: Path, facts: Facts) -> Program:
        """The MIL program of `graph`; its weights go into `folder`."""
        min_os, picture = self.opset(facts.precision), takes_picture(graph, facts)
        emitter = Emitter(
            graph,
            Weights(folder, min_os),
            min_os=min_os,
            arithmetic=self.arithmetic or ("float32" if facts.precision == "float32" else "float16"),
            weights_int8=facts.precision == "weights-int8",
            mean=facts.mean if picture else (),
            std=facts.std if picture else (),
        )
        return Program(emitter.program(), folder / FILE)


def needs(graph: Graph, precision: str) -> tuple[int, str]:
    """The oldest iOS that runs a file of that precision, and why. No op of ours needs more than its precision does."""
    return FLOORS[precision]


def _check_border(graph: Graph) -> None:
    """Names that apps can use, and tensors that cross the border."""
    names = [*(v.name for v in graph.inputs), *graph.output_names]
    if twice := [v.name for v in graph.inputs if v.name in graph.output_names]:
        raise UsageError(
            f"{', '.join(twice)} is the name of an input and of an output",
            why="in Core ML every feature has a name of its own",
            try_="rename one in forward(), or give other outputs: in the recipe",
        )
    if wrong := [name for name in names if not is_identifier(name)]:
        raise UsageError(
            f"{', '.join(wrong)}: Core ML takes letters, digits and underscores as names",
            why="they become variables of the program, and properties of the class that Xcode writes",
            try_="rename the argument of forward(), or give other outputs: in the recipe",
        )
    if coded := [v.name for v in [*graph.inputs, *graph.outputs] if v.quant is not None]:
        raise UsageError(
            f"{', '.join(coded)} would be integers outside the model",
            why="Core ML's inputs and outputs are float32; it quantises inside",
            try_="--io float",
        )
    if scalars := [v.name for v in [*graph.inputs, *graph.outputs] if not v.shape]:
        raise UsageError(
            f"{', '.join(scalars)} is a single number without a dimension",
            why="Core ML's features have one dimension at least",
            try_="reshape it to [1] in forward()",
        )
