"""Core ML files for tests: written, read by coremltools' own loader, and listed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from google.protobuf import text_format

from exporter.ir.graph import Graph
from exporter.lower.coreml import CoreML
from exporter.lower.facts import Facts

from coremltools.libmilstoragepython import _BlobStorageReader as BlobReader  # isort: skip - silenced by the line above

MODEL = Path("Data/com.apple.CoreML/model.mlmodel")


@contextmanager
def written(graph: Graph, precision: str = "float32", min_os: int | None = None, **options: Any) -> Iterator[Path]:
    """The graph as an .mlpackage; `options` are those of CoreML and Facts."""
    target = CoreML(min_os, options.pop("arithmetic", None))
    if not any(v.quant for v in [*graph.inputs, *graph.outputs]):  # codes outside are refused, but written in tests
        refused = target.unsupported(graph)
        assert not refused, refused
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.mlpackage"
        target.write(graph, path, Facts(graph.name, precision, **options))
        yield path


def specification(path: Path) -> Any:
    """The parsed Model of a package."""
    from coremltools.proto import Model_pb2

    model = Model_pb2.Model()
    model.ParseFromString((path / MODEL).read_bytes())
    return model


def load(path: Path) -> Any:
    """The program as coremltools understands it. Its own type inference runs for every operation, and it refuses what
    differs from the shapes and types that the file states.
    """
    from coremltools.converters.mil.frontend.milproto.load import load as load_program

    model = specification(path)
    return load_program(model, model.specificationVersion, str(path / MODEL.parent / "weights"))


def builder() -> Any:
    """coremltools' program builder."""
    from coremltools.converters.mil import Builder

    return Builder


def built(build: Any, shape: Sequence[int], precision: str, min_os: int, folder: Path, casts: bool = True) -> Any:
    """The program that coremltools serialises for one float32 input; weight.bin goes into `folder`.

    `build(x, constant)` makes the result of x; in float16 it is cast on the way in and out.
    """
    import coremltools as ct
    from coremltools.converters.mil.backend.mil.load import MILProtoExporter
    from coremltools.converters.mil.mil import types

    mb, dtype = builder(), np.dtype(precision)
    target = getattr(ct.target, f"iOS{min_os}")

    @mb.program(input_specs=[mb.TensorSpec(tuple(shape), types.fp32)], opset_version=target)
    def program(x: Any) -> Any:
        converted = casts and precision == "float16"
        x = mb.cast(x=x, dtype="fp16") if converted else x
        y = build(x, lambda values: np.asarray(values.detach() if hasattr(values, "detach") else values).astype(dtype))
        return mb.cast(x=y, dtype="fp32") if converted else y

    return MILProtoExporter(program, str(folder), min_os - 9).export()


def listing(program: Any, weights: Path) -> list[Any]:
    """Every operation in order: its type, its operands by parameter, the types of its results.

    An operand is what a constant holds, or the number of the operation that makes it (-1: an input).
    """
    function = program.functions["main"]
    block = function.block_specializations[function.opset]
    reader = BlobReader(str(weights / "weight.bin"))
    made: dict[str, Any] = {value.name: -1 for value in function.inputs}
    found = []
    for operation in block.operations:
        if operation.type == "const":
            made[operation.outputs[0].name] = _content(operation.attributes["val"], reader)
            continue
        operands = {
            key: [made[b.name] if b.WhichOneof("binding") == "name" else _content(b.value, reader) for b in a.arguments]
            for key, a in operation.inputs.items()
        }
        fixed = {key: _content(value, reader) for key, value in operation.attributes.items() if key != "name"}
        for output in operation.outputs:
            made[output.name] = len(found)
        found.append(
            (operation.type, operands, fixed, [text_format.MessageToString(o.type) for o in operation.outputs])
        )
    return [function.opset, *found, [made[name] for name in block.outputs]]


def _content(value: Any, reader: Any) -> tuple[str, bool, Any]:
    """Type, whether it is stored in the file, and elements."""
    kind = text_format.MessageToString(value.type)
    if value.WhichOneof("value") == "blobFileValue":
        read = {10: "fp16", 11: "float", 21: "int8", 23: "int32"}[value.type.tensorType.dataType]
        return kind, True, getattr(reader, f"read_{read}_data")(value.blobFileValue.offset).tolist()
    return kind, False, text_format.MessageToString(value.immediateValue)
