"""`edge-export inspect FILE`: what a .tflite file holds, ours or another's. No kernel runs."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from rich.console import Console

from exporter.errors import DataError
from exporter.lower.tflite.metadata import LABELS, FileMetadata
from exporter.lower.tflite.metadata import read as read_metadata
from exporter.lower.tflite.versions import SINCE, minimum_runtime
from exporter.report import figures
from exporter.report.parts import Column, Fact, Table
from exporter.report.sheet import print_sheet
from exporter.verify.runtimes.litert_file import FileTensor, TFLiteFile, broken, read_bytes, read_file

WEIGHT_OPERAND = {
    "CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "FULLY_CONNECTED": 1, "TRANSPOSE_CONV": 1, "CONV_3D": 1,
    "EMBEDDING_LOOKUP": 1,
}  # fmt: skip
"""Op -> the operand that holds its kernel."""
MOST_CHANNELS = 4


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True)


class Tensor(_Row):
    """An input or output as stored. `scale` and `zero_point` are None when it is not quantised."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    """Normalisation from the metadata: per channel, for pixels in 0..255."""
    labels: int = 0
    """Labels of this tensor, from the metadata."""


class OpKind(_Row):
    """One kind of op: how often, on integers alone or not."""

    op: str
    version: int
    count: int
    floats: int
    """How many of them read or write floats."""


class Sizes(_Row):
    """Bytes: `weights` are the kernels of convolutions and matrix products, `rest` is graph, metadata, labels."""

    total: int
    weights: int
    constants: int
    rest: int


class Inspection(_Row):
    """What `inspect_file` found."""

    path: str
    sha256: str
    sizes: Sizes
    name: str
    description: str
    version: str
    author: str
    licence: str
    signature: str
    subgraphs: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    ops: tuple[OpKind, ...]
    integer_ops: int
    float_ops: int
    tail_ops: int
    """Those of the float ops from which nothing leads back to integers: the end of a file that began in integers."""
    border_ops: int
    """QUANTIZE and DEQUANTIZE at the file's float inputs and outputs; counted on neither side."""
    transposes: int
    minimum_runtime: str | None
    """TensorFlow Lite release, None where it is not known for some op."""
    labels: int
    metadata: tuple[str, ...]


def inspect_file(path: Path) -> Inspection:
    """Read a .tflite file, or that of a bundle folder. Raises DataError for a missing, foreign or damaged one."""
    path = Path(path)
    if path.is_dir():
        path = _file_of(path)
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
    try:
        sizes = _sizes(content, file)
        inputs = _tensors(file, signature.inputs if signature else None, file.inputs, tables[0], meta)
        outputs = _tensors(file, signature.outputs if signature else None, file.outputs, tables[1], meta)
    except Exception as error:  # indices and offsets of a damaged file can point anywhere
        raise broken(path, f"{type(error).__name__}: {error}") from error
    return Inspection(
        path=str(path),
        sha256=hashlib.sha256(content).hexdigest(),
        sizes=sizes,
        name=str(meta.model.get("name", "")),
        description=str(meta.model.get("description") or file.description),
        version=str(meta.model.get("version", "")),
        author=str(meta.model.get("author", "")),
        licence=str(meta.model.get("license", "")),
        signature=signature.key if signature else "",
        subgraphs=file.subgraphs,
        inputs=inputs,
        outputs=outputs,
        ops=tuple(
            OpKind(op=op, version=version, count=count, floats=with_floats[op, version])
            for (op, version), count in sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
        ),
        integer_ops=len(file.ops) - len(floats) - len(borders),
        float_ops=len(floats),
        tail_ops=_tail(file, floats) if len(floats) + len(borders) < len(file.ops) else 0,
        border_ops=len(borders),
        transposes=sum(op.name == "TRANSPOSE" for op in file.ops),
        minimum_runtime=minimum_runtime(builtin) if builtin <= SINCE.keys() else None,
        labels=_labels(meta, _names(meta.model)),
        metadata=file.metadata,
    )


def print_inspection(found: Inspection, console: Console) -> None:
    """Facts, inputs and outputs, ops."""
    inner, total = found.integer_ops + found.float_ops, sum(kind.count for kind in found.ops)
    sizes = found.sizes
    facts = [
        Fact("name", found.name),
        Fact("description", found.description),
        Fact("version", found.version),
        Fact("author", found.author),
        Fact("licence", found.licence),
        Fact("size", f"{figures.megabytes(sizes.total)} MB: " + _shares(sizes)),
        Fact("sha256", found.sha256),
        Fact("operators", f"{figures.plural(total, 'op')}, {figures.plural(found.transposes, 'transpose')}"),
        Fact(
            "integer",
            f"{found.integer_ops:,} of {figures.plural(inner, 'op')} ({figures.share(found.integer_ops / inner)}); "
            f"{found.border_ops} quantize/dequantize at the border"
            if inner
            else "",
        ),
        Fact("float tail", f"{found.tail_ops} of the others, behind the last integer op" if found.tail_ops else ""),
        Fact("needs", f"tflite {found.minimum_runtime} or newer" if found.minimum_runtime else ""),
        Fact("signature", found.signature or "none"),
        Fact("subgraphs", f"{found.subgraphs}: only the first is shown" if found.subgraphs > 1 else ""),
        Fact("labels", f"{found.labels}, for no tensor in particular" if found.labels else ""),
        Fact("metadata", ", ".join(found.metadata)),
    ]
    print_sheet(
        console,
        found.path,
        tuple(fact for fact in facts if fact.text),
        _tensor_table("input", found.inputs),
        _tensor_table("output", found.outputs),
        _op_table(found.ops),
    )


def _file_of(folder: Path) -> Path:
    """The .tflite that a bundle's manifest names."""
    from exporter.bundle import read_manifest

    targets = read_manifest(folder).get("targets")
    name = targets.get("tflite") if isinstance(targets, dict) else None
    if not isinstance(name, str) or not name.endswith(".tflite"):
        raise DataError(f"the manifest of {folder} names no .tflite file", try_="edge-export inspect FILE.tflite")
    return folder / name


# --- reading ----------------------------------------------------------------------------------------------------------
def _is_border(file: TFLiteFile, name: str, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> bool:
    return name in ("QUANTIZE", "DEQUANTIZE") and (inputs[0] in file.inputs or outputs[0] in file.outputs)


def _tail(file: TFLiteFile, floats: set[int]) -> int:
    """How many of the ops `floats` lead to the outputs through such ops alone."""
    leads_back: set[int] = set()
    count = 0
    for op in reversed(file.ops):
        if op.index not in floats or leads_back.intersection(op.outputs):
            leads_back.update(op.inputs)
        else:
            count += 1
    return count


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


def _sizes(content: bytes, file: TFLiteFile) -> Sizes:
    """Every buffer counts once, however many tensors share it."""
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
    return Sizes(total=total, weights=of_weights, constants=of_constants, rest=total - of_weights - of_constants)


# --- printing ---------------------------------------------------------------------------------------------------------
def _shares(sizes: Sizes) -> str:
    parts = (("weights", sizes.weights), ("other constants", sizes.constants), ("graph and metadata", sizes.rest))
    return ", ".join(f"{name} {figures.share(part / sizes.total)}" for name, part in parts)


def _tensor_table(kind: str, tensors: tuple[Tensor, ...]) -> Table | None:
    titles = (kind, "shape", "type", "scale", "zero point", "normalisation of 0..255", "labels")
    rows = [
        (
            tensor.name,
            "x".join(map(str, tensor.shape)) or "scalar",
            tensor.dtype,
            figures.ABSENT if tensor.scale is None else f"{tensor.scale:.8g}",
            figures.ABSENT if tensor.zero_point is None else str(tensor.zero_point),
            _normalisation(tensor),
            str(tensor.labels) if tensor.labels else figures.ABSENT,
        )
        for tensor in tensors
    ]
    filled = [at for at in range(len(titles)) if at < 3 or any(row[at] != figures.ABSENT for row in rows)]
    columns = tuple(Column(titles[at], numeric=at in (3, 4, 6)) for at in filled)
    return Table(kind, columns, tuple(tuple(row[at] for at in filled) for row in rows)) if rows else None


def _normalisation(tensor: Tensor) -> str:
    if not tensor.mean or not tensor.std:
        return figures.ABSENT
    return f"(x - {_channels(tensor.mean)}) / {_channels(tensor.std)}"


def _channels(values: tuple[float, ...]) -> str:
    if len(set(values)) == 1:
        return f"{values[0]:.5g}"
    shown = " ".join(f"{value:.5g}" for value in values[:MOST_CHANNELS])
    return f"[{shown}{' …' if len(values) > MOST_CHANNELS else ''}]"


def _op_table(ops: tuple[OpKind, ...]) -> Table | None:
    columns = (Column("op", numeric=False), Column("version"), Column("count"), Column("on floats"))
    rows = [(k.op, str(k.version), figures.count(k.count), figures.count(k.floats)) for k in ops]
    return Table("Ops", columns, tuple(rows)) if math.fsum(k.count for k in ops) else None
