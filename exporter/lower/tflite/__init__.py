"""TFLite, written straight from its schema: float32, float16 weights, and full int8. No TensorFlow."""

from __future__ import annotations

from pathlib import Path

from exporter.ir.graph import Graph, Node
from exporter.lower import require
from exporter.lower.facts import Facts
from exporter.lower.tflite import channels as channels
from exporter.lower.tflite import detection as detection
from exporter.lower.tflite import elementwise as elementwise
from exporter.lower.tflite import matrix as matrix
from exporter.lower.tflite import shape as shape
from exporter.lower.tflite import upsample as upsample
from exporter.lower.tflite import windows as windows
from exporter.lower.tflite.emit import SPELLINGS, Emitter
from exporter.lower.tflite.versions import minimum_runtime


class TFLite:
    """The target `tflite`."""

    suffix = ".tflite"
    floats = "float32"
    precisions = frozenset({"float32", "float16", "int8"})

    def check(self, precision: str) -> None:
        """Raises UsageError for another than `precisions`."""
        require("tflite", precision, self.precisions)

    def unsupported(self, graph: Graph) -> list[tuple[Node, str]]:
        """(node, reason) for each node that has no spelling."""
        return [(node, reason) for node in graph.nodes if (reason := _refusal(node))]

    def write(self, graph: Graph, path: Path, facts: Facts) -> None:
        """Write `graph` to `path`: NHWC by value, a signature, TFLite Metadata, the same bytes on every run."""
        from exporter.lower.tflite.metadata import append_files, metadata_for

        emitter = Emitter(graph, float16_weights=facts.precision == "float16")
        file = emitter.file
        file.add_metadata("min_runtime_version", minimum_runtime(file.ops).encode().ljust(16, b"\0"))
        file.add_metadata("TFLITE_METADATA", metadata_for(graph, facts))
        inputs = {value.name: emitter.stored(value) for value in graph.inputs}
        outputs = {name: emitter.stored(value) for name, value in zip(graph.output_names, graph.outputs, strict=True)}
        content = file.pack(inputs, outputs, facts.description)
        labels = {"labels.txt": ("\n".join(facts.labels) + "\n").encode()} if facts.labels else {}
        path.write_bytes(append_files(content, labels))


def _refusal(node: Node) -> str:
    name = node.op.name
    if name not in SPELLINGS:
        return "TFLite has no such builtin and no decomposition is known"
    if name == "detection_postprocess" and node.inputs[0].shape[0] != 1:
        return "TFLite_Detection_PostProcess takes one picture at a time"
    if max(len(v.shape) for v in [*node.inputs, *node.outputs]) > 5:
        return "more than 5 dimensions"
    return ""
