"""What a report says, as plain text in facts, tables and charts; console, Markdown and HTML only print it.

`detail` marks what the console leaves out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from exporter.report import figures
from exporter.report.figures import ABSENT, plural
from exporter.verify.results import FileFacts, Gate, LatencyRow, Report, Snr, Verification

PASS, FAIL = "✓ pass", "✗ FAIL"
LOUD = "RANDOM WEIGHTS: no figure below says anything about task accuracy."
DIGITS = 12
"""How much of a sha256 is shown where the whole would not fit."""

T = TypeVar("T")


@dataclass(frozen=True)
class Fact:
    """One labelled sentence."""

    label: str
    text: str
    detail: bool = False
    loud: bool = False


@dataclass(frozen=True)
class Column:
    """`numeric` columns are aligned right."""

    title: str
    numeric: bool = True
    detail: bool = False


@dataclass(frozen=True)
class Bar:
    """`value` sets the length; `text` is written beside it."""

    label: str
    value: float
    text: str


@dataclass(frozen=True)
class Chart:
    """Bars on one scale that starts at 0."""

    title: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Table:
    """`brief` is the number of rows the console shows at most."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    charts: tuple[Chart, ...] = ()
    detail: bool = False
    brief: int = 16


@dataclass(frozen=True)
class Document:
    """A whole report in reading order. `passed` is None where nothing was judged."""

    title: str
    head: tuple[Fact, ...]
    passed: bool | None
    verdict: str
    warnings: tuple[str, ...]
    shipped: tuple[Fact, ...]
    tables: tuple[Table, ...]
    run: tuple[Fact, ...]


def describe(report: Report) -> Document:
    """Everything there is to say about one run."""
    found = report.verification or Verification()
    passed, verdict = _verdict(report.verification)
    tables = (
        _parity(found),
        _float_ops(found),
        _files(found),
        *_latency(found),
        _gates(found.gates),
        _stages(report),
        _top_ops(found),
        _graph_parity(found),
    )
    return Document(
        title=f"{report.title} · {report.precision} · {report.target}",
        head=_head(report),
        passed=passed,
        verdict=verdict,
        warnings=found.warnings,
        shipped=_shipped(found.files[0]) if found.files else (),
        tables=tuple(table for table in tables if table),
        run=_run(report),
    )


def _head(report: Report) -> tuple[Fact, ...]:
    found, calibration = report.verification, report.calibration
    facts = [Fact("weights", report.weights)]
    if report.random_weights:
        facts.append(Fact("", LOUD, loud=True))
    facts += [
        Fact(
            "model",
            f"{report.model}, {figures.large(report.parameters)} parameters, {figures.large(report.macs)} MACs, "
            f"{figures.shapes(report.input_shapes)}",
        ),
        Fact("processor", report.processor),
        Fact("runtime", found.runtime if found and found.runtime else "not run"),
    ]
    if calibration:
        facts.append(
            Fact(
                "calibrated",
                f"{calibration.source}, {calibration.count} of {plural(calibration.available, 'sample')}, "
                f"{calibration.method} ranges, sha256 {calibration.sha256[:DIGITS]}",
            )
        )
    elif report.precision == "int8":
        facts.append(Fact("calibrated", "not known"))
    if found:
        note = f": {found.samples_note}" if found.samples_note else ""
        facts.append(Fact("verified on", plural(found.samples, "sample") + note))
    return tuple(facts)


def _verdict(found: Verification | None) -> tuple[bool | None, str]:
    if found is None:
        return None, "not verified: the run ended before the files were run"
    if not found.gates:
        return None, "no gate was set: nothing was judged"
    failed = [gate for gate in found.gates if not gate.passed]
    if not failed:
        return True, f"{PASS}: {plural(len(found.gates), 'gate')}, none failed"
    named = ", ".join(f"{gate.name} {gate.value} (limit {gate.limit})" for gate in failed)
    return False, f"{FAIL} {len(failed)} of {plural(len(found.gates), 'gate')}: {named}"


def _shipped(file: FileFacts) -> tuple[Fact, ...]:
    facts = [
        Fact("file", f"{file.path}, {figures.megabytes(file.size_bytes)} MB"),
        Fact("sha256", file.sha256, detail=True),
        Fact("operators", f"{plural(file.total_ops, 'op')}, {plural(file.transposes, 'transpose')}"),
        Fact("by kind", _counts(file.ops), detail=True),
    ]
    if file.precision == "int8":
        inner = file.total_ops - file.border_ops
        facts.append(
            Fact(
                "integer",
                f"{figures.count(file.integer_ops)} of {plural(inner, 'op')} between input and output "
                f"({figures.share(file.integer_share)}); {file.border_ops} quantize/dequantize at the border",
            )
        )
    if file.partitions is not None:
        facts.append(Fact("delegate", f"XNNPACK, {plural(file.partitions, 'partition')}; {_outside(file)}"))
    if file.profile_note:
        facts.append(Fact("profile", f"none: {file.profile_note}"))
    if file.minimum_runtime:
        facts.append(Fact("needs", f"{file.minimum_runtime} or newer"))
    return tuple(facts)


def _outside(file: FileFacts) -> str:
    """The ops that the delegate did not take, and what they cost."""
    if not file.outside_delegate:
        return "no op outside"
    ops = (
        f"{row.op} x{row.count}" + (f" ({figures.share(row.share)})" if row.share is not None else "")
        for row in file.outside_delegate
    )
    total = f": {figures.share(file.outside_share)} of the time" if file.outside_share is not None else ""
    return f"outside: {', '.join(ops)}{total}"


def _parity(found: Verification) -> Table | None:
    floats = {row.output: row for row in found.float_parity}
    codes = {row.output: row for row in found.integer_parity}
    int8 = {row.output: row for row in found.int8_snr}
    outputs = list(dict.fromkeys([*floats, *codes, *int8]))
    columns, cells = [Column("output", numeric=False)], [[name] for name in outputs]

    def add(title: str, rows: Mapping[str, T], cell: Callable[[T], str], detail: bool = False) -> None:
        if rows:
            columns.append(Column(title, detail=detail))
            for row, name in zip(cells, outputs, strict=True):
                row.append(cell(rows[name]) if name in rows else ABSENT)

    add("float dB", floats, lambda row: figures.decibels(row.pooled))
    add("float median dB", floats, lambda row: figures.decibels(row.median), detail=True)
    add("float max error", floats, lambda row: figures.error(row.max_error))
    add("codes equal", codes, lambda row: figures.share(row.equal))
    add("max LSB", codes, lambda row: str(row.max_lsb))
    add("codes", codes, lambda row: figures.count(row.count), detail=True)
    add("int8 dB", int8, lambda row: figures.decibels(row.pooled))
    add("median dB", int8, lambda row: figures.decibels(row.median))
    add("int8 max error", int8, lambda row: figures.error(row.max_error), detail=True)
    charts = tuple(
        Chart(f"{precision} file against PyTorch, SNR in dB", _snr_bars(rows))
        for precision, rows in (("Float", found.float_parity), ("int8", found.int8_snr))
        if rows
    )
    note = "dB: SNR against float PyTorch. Codes: int8 values against the integer interpreter's." if codes else ""
    return _table("Parity", columns, cells, note=note, charts=charts)


def _graph_parity(found: Verification) -> Table | None:
    columns = (Column("output", numeric=False), Column("dB"), Column("median dB"), Column("max error"))
    rows = [
        (row.output, figures.decibels(row.pooled), figures.decibels(row.median), figures.error(row.max_error))
        for row in found.graph_parity
    ]
    return _table("Simplified graph against PyTorch", columns, rows, detail=True)


def _float_ops(found: Verification) -> Table | None:
    columns = tuple(Column(title, numeric=False) for title in ("float op", "where", "reason"))
    rows = [(op.op, op.where, op.reason) for file in found.files[:1] for op in file.float_ops]
    return _table("Ops that stayed float", columns, rows, brief=6)


def _files(found: Verification) -> Table | None:
    """Sizes, and where two files differ otherwise; the shipped one first, the last is the float one."""
    columns = (
        Column("file", numeric=False),
        Column("MB"),
        Column("size vs float"),
        Column("ops", detail=True),
        Column("transposes", detail=True),
        Column("partitions", detail=True),
        Column("time outside delegate", detail=True),
        Column("sha256", numeric=False, detail=True),
    )
    twin = _float_file(found)
    rows = [
        (
            _role(file, found.files[0]),
            figures.megabytes(file.size_bytes),
            figures.ratio(file.size_bytes, twin.size_bytes) if twin else ABSENT,
            figures.count(file.total_ops),
            figures.count(file.transposes),
            ABSENT if file.partitions is None else str(file.partitions),
            figures.share(file.outside_share),
            file.sha256[:DIGITS],
        )
        for file in found.files
    ]
    return _table("Size", columns, rows)


def _latency(found: Verification) -> list[Table]:
    """One table per device and number of threads."""
    columns = (
        Column("latency", numeric=False),
        Column("median ms"),
        Column("p90 ms"),
        Column("min ms"),
        Column("time vs float"),
        Column("runs", detail=True),
    )
    twin = _float_file(found)
    tables = []
    for device, threads in dict.fromkeys((row.device, row.threads) for row in found.latency):
        group = [row for row in found.latency if (row.device, row.threads) == (device, threads)]
        base = next((row.median_ms for row in group if twin and _is_of(row, twin)), 0.0)
        rows = [
            (
                next((file.precision for file in found.files if _is_of(row, file)), row.file),
                figures.milliseconds(row.median_ms),
                figures.milliseconds(row.p90_ms),
                figures.milliseconds(row.min_ms),
                figures.ratio(row.median_ms, base),
                str(row.runs),
            )
            for row in group
        ]
        where = "Measured on x86, not on a mobile processor:" if _is_x86(device) else "Measured on"
        note = f"{where} {device}, {plural(threads, 'thread')}"
        tables.append(Table("Latency", columns, tuple(rows), note=note))
    return tables


def _gates(gates: Sequence[Gate]) -> Table | None:
    columns = (
        Column("gate", numeric=False),
        Column("limit"),
        Column("value"),
        Column("", numeric=False),
        Column("family", numeric=False, detail=True),
    )
    rows = [(gate.name, gate.limit, gate.value, PASS if gate.passed else FAIL, gate.family) for gate in gates]
    return _table("Gates", columns, rows)


def _stages(report: Report) -> Table | None:
    if not report.stages:
        return None
    columns = (Column("stage", numeric=False), Column("wall s"), Column("CPU s"), Column("peak MB"))
    rows = [
        (row.stage, figures.seconds(row.wall_s), figures.seconds(row.cpu_s), f"{row.peak_mb:,.0f}")
        for row in report.stages
    ]
    wall, cpu = sum(row.wall_s for row in report.stages), sum(row.cpu_s for row in report.stages)
    peak = max(row.peak_mb for row in report.stages)
    rows.append(("total", figures.seconds(wall), figures.seconds(cpu), f"{peak:,.0f}"))
    bars = tuple(Bar(row.stage, row.wall_s, f"{figures.seconds(row.wall_s)} s") for row in report.stages)
    return _table("Stages", columns, rows, charts=(Chart("Wall time of each stage", bars),))


def _top_ops(found: Verification) -> Table | None:
    top = found.files[0].top_ops if found.files else ()
    columns = (Column("op", numeric=False), Column("count"), Column("share of time"))
    rows = [(row.op, figures.count(row.count), figures.share(row.share)) for row in top]
    bars = tuple(Bar(row.op, row.share, figures.share(row.share)) for row in top)
    charts = (Chart("Share of the time of one inference", bars),)
    return _table("Time by kind of op", columns, rows, charts=charts, detail=True)


def _run(report: Report) -> tuple[Fact, ...]:
    facts = [
        Fact("command", report.command),
        Fact("inputs and outputs", report.io),
        Fact("output shapes", figures.shapes(report.output_shapes)),
        Fact("parameters", figures.count(report.parameters)),
        Fact("MACs", figures.count(report.macs)),
        Fact("versions", ", ".join(f"{name} {version}" for name, version in report.versions.items())),
    ]
    if report.calibration:
        facts.append(Fact("calibration sha256", report.calibration.sha256))
        facts.append(Fact("calibration samples", ", ".join(report.calibration.names)))
    return tuple(fact for fact in facts if fact.text)


def _table(
    title: str,
    columns: Iterable[Column],
    rows: Iterable[Sequence[str]],
    *,
    note: str = "",
    charts: tuple[Chart, ...] = (),
    detail: bool = False,
    brief: int = 16,
) -> Table | None:
    """None where there are no rows."""
    filled = tuple(tuple(row) for row in rows)
    return Table(title, tuple(columns), filled, note, charts, detail, brief) if filled else None


def _snr_bars(rows: Sequence[Snr]) -> tuple[Bar, ...]:
    """An exact output has no figure: its bar is as long as the longest."""
    known = [row.pooled for row in rows if row.pooled is not None and math.isfinite(row.pooled)]
    longest = max(known, default=1.0)
    return tuple(
        Bar(row.output, longest if row.pooled is None else row.pooled, figures.decibels(row.pooled)) for row in rows
    )


def _float_file(found: Verification) -> FileFacts | None:
    return next((file for file in found.files if file.precision == "float32"), None)


def _role(file: FileFacts, shipped: FileFacts) -> str:
    return file.precision if file is shipped else f"{file.precision}, not shipped"


def _is_of(row: LatencyRow, file: FileFacts) -> bool:
    return row.file in (file.precision, file.path, Path(file.path).name)


def _is_x86(device: str) -> bool:
    return re.search(r"x86|amd64|i[3-6]86", device, re.IGNORECASE) is not None


def _counts(ops: Mapping[str, int]) -> str:
    """Most frequent first."""
    return ", ".join(f"{op} {number}" for op, number in sorted(ops.items(), key=lambda item: (-item[1], item[0])))
