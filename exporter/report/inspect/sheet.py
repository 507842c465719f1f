"""The look of an inspection: facts, inputs and outputs, ops."""

from __future__ import annotations

from rich.console import Console

from exporter.report import figures
from exporter.report.inspect.found import Inspection, OpKind, Sizes, Tensor
from exporter.report.parts import Column, Fact, Table
from exporter.report.sheet import print_sheet

MOST_CHANNELS = 4


def print_inspection(found: Inspection, console: Console) -> None:
    """Facts, inputs and outputs, ops."""
    inner, total = found.integer_ops + found.float_ops, sum(kind.count for kind in found.ops)
    sizes = found.sizes
    around = "at the border" if found.format == "TFLite" else "around them"
    facts = [
        Fact("name", found.name),
        Fact("description", found.description),
        Fact("version", found.version),
        Fact("author", found.author),
        Fact("licence", found.licence),
        Fact("size", f"{figures.megabytes(sizes.total)} MB: {_shares(sizes)}"),
        Fact("weights", ", ".join(f"{figures.large(number)} {dtype}" for dtype, number in found.weights.items())),
        Fact("sha256", found.sha256),
        Fact("operators", f"{figures.plural(total, 'op')}, {figures.plural(found.transposes, 'transpose')}"),
        Fact(
            "integer",
            f"{found.integer_ops:,} of {figures.plural(inner, 'op')} ({figures.share(found.integer_ops / inner)}); "
            f"{found.border_ops} quantize/dequantize {around}"
            if inner and found.integer_ops + found.border_ops
            else "",
        ),
        Fact("float tail", f"{found.tail_ops} of the others, behind the last integer op" if found.tail_ops else ""),
        Fact("needs", found.needs),
        *(Fact(label, text) for label, text in found.details.items()),
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
    titles = ("op", "version", "count", "on floats")
    rows = [(k.op, str(k.version), figures.count(k.count), figures.count(k.floats)) for k in ops]
    shown = [at for at, title in enumerate(titles) if title != "version" or any(k.version is not None for k in ops)]
    columns = tuple(Column(titles[at], numeric=at > 0) for at in shown)
    return Table("Ops", columns, tuple(tuple(row[at] for at in shown) for row in rows)) if rows else None
