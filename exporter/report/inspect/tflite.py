"""What a .tflite file holds, read through its schema."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from exporter.lower.tflite.metadata import LABELS, FileMetadata
from exporter.lower.tflite.metadata import read as read_metadata
from exporter.lower.tflite.versions import SINCE, minimum_runtime
from exporter.report.inspect.found import Inspection, OpKind, Sizes, Tensor, tail
from exporter.verify.runtimes.litert_file import FileTensor, TFLiteFile, broken, read_bytes, read_file

WEIGHT_OPERAND = {
    "CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "FULLY_CONNECTED": 1, "TRANSPOSE_CONV": 1, "CONV_3D": 1,
    "EMBEDDING_LOOKUP": 1,
}  # fmt: skip
"""Op -> the operand that holds its kernel."""


def read(path: Path) -> Inspection:
    """Raises DataError for a missing, foreign or damaged file."""
    content = read_bytes(path)
    file, meta = read_file(path), read_metadata(path)
    signature = next((s for s in file.signatures if s.key == "serving_default"), next(iter(file.signatures), None))
    sides = ("input_tensor_metadata", "output_tensor_metadata")
    tables = [_subgraph(meta).get(side, []) for side in sides]
    borders = {op.index for op in file.ops if _is_border(file, op.name, op.inputs, op.outputs)}
    floats = {op.index for op in file.float_ops} - borders
    kinds = Counter((op.name, op.version) for op in file.ops)
    builtin = {(op.name, op.version) for op in file.ops if not op.custom}
    with_floats = Counter((op.name, op.version) for op in file.ops if op.index in floats)
    on_codes = {op.index for op in file.ops} - floats
    details = {"signature": signature.key if signature else "none"}
    if file.subgraphs > 1:
        details["subgraphs"] = f"{file.subgraphs}: only the first is shown"
    try:
        sizes, weights = _sizes(content, file)
        inputs = _tensors(file, signature.inputs if signature else None, file.inputs, tables[0], meta)
        outputs = _tensors(file, signature.outputs if signature else None, file.outputs, tables[1], meta)
    except Exception as error:  # indices and offsets of a damaged file can point anywhere
        raise broken(path, f"{type(error).__name__}: {error}") from error
    return Inspection(
        path=str(path),
        format="TFLite",
        sha256=hashlib.sha256(content).hexdigest(),
        sizes=sizes,
        weights=weights,
        name=str(meta.model.get("name", "")),
        description=str(meta.model.get("description") or file.description),
        version=str(meta.model.get("version", "")),
        author=str(meta.model.get("author", "")),
        licence=str(meta.model.get("license", "")),
        inputs=inputs,
        outputs=outputs,
        ops=tuple(
            OpKind(op=op, version=version, count=count, floats=with_floats[op, version])
            for (op, version), count in sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
        ),
        integer_ops=len(file.ops) - len(floats) - len(borders),
        float_ops=len(floats),
        tail_ops=tail([(op.inputs, op.outputs) for op in file.ops], floats, on_codes) if on_codes - borders else 0,
        border_ops=len(borders),
        transposes=sum(op.name == "TRANSPOSE" for op in file.ops),
        needs=f"tflite {minimum_runtime(builtin)} or newer" if builtin <= SINCE.keys() else "",
        labels=_labels(meta, _names(meta.model)),
        metadata=file.metadata,
        details=details,
    )


def _is_border(file: TFLiteFile, name: str, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> bool:
    return name in ("QUANTIZE", "DEQUANTIZE") and (inputs[0] in file.inputs or outputs[0] in file.outputs)


def _tensors(
    file: TFLiteFile,
    named: tuple[tuple[str, int], ...] | None,
    indices: tuple[int, ...],
    tables: list[dict[str, Any]],
    meta: FileMetadata,
) -> tuple[Tensor, ...]:
    """In the signature's order and names where there is one. Metadata goes by position in the subgraph."""
    pairs = named if named is not None else tuple((file.tensors[i].name, i) for i in indices)
    position = {index: at for at, index in enumerate(indices)}
    return tuple(_tensor(name, file.tensors[i], _at(tables, position.get(i)), meta) for name, i in pairs)


def _tensor(name: str, stored: FileTensor, table: dict[str, Any], meta: FileMetadata) -> Tensor:
    options = [unit["options"] for unit in table.get("process_units", []) if "options" in unit]
    normalisation: dict[str, Any] = next((fields for kind, fields in options if kind == "NormalizationOptions"), {})
    return Tensor(
        name=name,
        shape=stored.shape,
        dtype=stored.dtype,
        scale=stored.scale[0] if stored.scale else None,
        zero_point=stored.zero_point[0] if stored.zero_point else None,
        mean=tuple(normalisation.get("mean", ())),
        std=tuple(normalisation.get("std", ())),
        labels=_labels(meta, _names(table)),
    )


def _at(tables: list[dict[str, Any]], position: int | None) -> dict[str, Any]:
    return tables[position] if position is not None and position < len(tables) else {}


def _subgraph(meta: FileMetadata) -> dict[str, Any]:
    return dict(next(iter(meta.model.get("subgraph_metadata", [])), {}))


def _names(table: dict[str, Any]) -> list[str]:
    return [str(entry.get("name", "")) for entry in table.get("associated_files", [])]


def _labels(meta: FileMetadata, names: Iterable[str]) -> int:
    """Lines of the first of these files that is there and looks like labels."""
    texts = (meta.files[n] for n in names if n in meta.files and (n == LABELS or "label" in n.lower()))
    return len(next(texts, b"").decode(errors="replace").splitlines())


def _sizes(content: bytes, file: TFLiteFile) -> tuple[Sizes, dict[str, int]]:
    """Sizes, and elements of kernels by dtype. Every buffer counts once, however many tensors share it."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content, 0)
    graph = model.Subgraphs(0)
    buffers = [model.Buffers(i) for i in range(model.BuffersLength())]
    stored = {i: buffer.Size() if buffer.Offset() else buffer.DataLength() for i, buffer in enumerate(buffers)}
    stands_for = {op.outputs[0]: op.inputs[0] for op in file.ops if op.name == "DEQUANTIZE"}  # float16 weights
    kernels = {op.inputs[at] for op in file.ops if (at := WEIGHT_OPERAND.get(op.name)) and len(op.inputs) > at}
    kernels = {stands_for.get(i, i) for i in kernels}
    weights = {graph.Tensors(i).Buffer() for i in kernels if file.tensors[i].constant}
    constants = {graph.Tensors(t.index).Buffer() for t in file.tensors if t.constant} - weights
    total, of_weights = len(content), sum(stored[i] for i in weights)
    of_constants = sum(stored[i] for i in constants)
    sizes = Sizes(total=total, weights=of_weights, constants=of_constants, rest=total - of_weights - of_constants)
    kept = {graph.Tensors(i).Buffer(): file.tensors[i] for i in kernels if file.tensors[i].constant}
    elements: Counter[str] = Counter()
    for tensor in kept.values():
        elements[tensor.dtype] += math.prod(tensor.shape)
    return sizes, dict(elements.most_common())
