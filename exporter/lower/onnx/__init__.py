"""ONNX: float32, float16 weights, and int8 as QDQ (quantize/dequantize pairs) with the graph's own parameters."""

from __future__ import annotations

from pathlib import Path

from exporter.errors import UsageError
from exporter.ir.graph import Graph, Node
from exporter.lower import require
from exporter.lower.facts import Facts
from exporter.lower.onnx import detection as detection
from exporter.lower.onnx import fixed_point as fixed_point
from exporter.lower.onnx import spellings as spellings
from exporter.lower.onnx.emit import SPELLINGS, Emitter


class ONNX:
    """The target `onnx`."""

    suffix = ".onnx"
    floats = "float32"
    precisions = frozenset({"float32", "float16", "int8"})
    ops = frozenset(SPELLINGS)

    def check(self, precision: str) -> None:
        """Raises UsageError for another than `precisions`."""
        require("onnx", precision, self.precisions)

    def unsupported(self, graph: Graph) -> list[tuple[Node, str]]:
        """(node, reason) for each node without spelling. Raises UsageError for a name that ONNX cannot give twice."""
        if twice := [v.name for v in graph.inputs if v.name in graph.output_names]:
            raise UsageError(
                f"{', '.join(twice)} is the name of an input and of an output",
                why="in ONNX every tensor has a name of its own",
                try_="rename one in forward(), or give other outputs: in the recipe",
            )
        reason = "no ONNX spelling is known"
        return [(node, reason) for node in graph.nodes if node.op.name not in SPELLINGS]

    def write(self, graph: Graph, path: Path, facts: Facts) -> None:
        """Write `graph` to `path`: NCHW, names and order of the model, metadata, the same bytes on every run."""
        model = Emitter(graph, float16_weights=facts.precision == "float16").model(facts.description)
        own = {"author": facts.author, "license": facts.licence}  # which ONNX has no field for
        for key, value in (facts.properties() | own).items():
            if value:
                model.metadata_props.add(key=key, value=value)
        path.write_bytes(model.SerializeToString(deterministic=True))
