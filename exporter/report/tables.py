"""The tables of a report. Each function gives None (or no table) where nothing was measured."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from exporter.report import figures
from exporter.report.facts import DIGITS
from exporter.report.figures import ABSENT, plural
from exporter.report.parts import FAIL, PASS, Bar, Chart, Column, Table
from exporter.verify.devices.facts import Latency
from exporter.verify.results import (
    Compared,
    Evaluation,
    FileFacts,
    Gate,
    Measurements,
    Report,
    Score,
    Snr,
    Verification,
)

T = TypeVar("T")


def parity(found: Measurements, several: bool = False) -> Table | None:
    """Every output: float and int8 SNR in dB, int8 codes against the integer interpreter; a chart of each SNR."""
    floats = {row.output: row for row in found.float_parity}
    codes = {row.output: row for row in found.integer_parity}
    int8 = {row.output: row for row in found.int8_snr}
    tail = {row.output: row for row in found.tail_parity}
    outputs = list(dict.fromkeys([*codes, *floats, *int8, *tail]))
    columns, cells = [Column(_titled("output", found, several), numeric=False)], [[name] for name in outputs]

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
    add("tail dB", tail, lambda row: figures.decibels(row.pooled))
    add("int8 dB", int8, lambda row: figures.decibels(row.pooled))
    add("median dB", int8, lambda row: figures.decibels(row.median))
    add("int8 max error", int8, lambda row: figures.error(row.max_error), detail=True)
    charts = tuple(
        Chart(f"{precision} file against PyTorch, SNR in dB", _snr_bars(rows))
        for precision, rows in (("Float", found.float_parity), ("int8", found.int8_snr))
        if rows
    )
    note = "dB: SNR against float PyTorch. Codes: int8 values against the integer interpreter's." if codes else ""
    if tail:
        note = f"{note or 'dB: SNR against float PyTorch.'} Tail: the shipped file's against the interpreter's."
    return _table(_titled("Parity", found, several), columns, cells, note=note, charts=charts)


def detections(found: Measurements, several: bool = False) -> Table | None:
    """Finished detections of each file: how many pair up with the reference's."""
    columns = (
        Column(_titled("detections of", found, several), numeric=False),
        Column("against", numeric=False),
        Column("expected"),
        Column("found"),
        Column("pairs"),
        Column("share"),
        Column("mean IoU"),
        Column("max score error"),
        Column("a pair's IoU", detail=True),
        Column("a pair's scores", detail=True),
    )
    rows = [
        (
            f"{row.file} file",
            row.reference,
            figures.count(row.expected),
            figures.count(row.found),
            figures.count(row.matched),
            figures.share(row.share),
            ABSENT if row.mean_iou is None else f"{row.mean_iou:.4f}",
            figures.error(row.max_score_error),
            f">= {row.least_iou:g}",
            f"within {row.most_score:g}",
        )
        for row in found.detections
    ]
    return _table(
        _titled("Detections", found, several),
        columns,
        rows,
        note="A pair has one class, and boxes and scores near each other.",
    )


def evaluation(found: Evaluation | None, random_weights: bool = False) -> Table | None:
    """The task metric of PyTorch and of every file, with what each lost."""
    if found is None:
        return None
    columns = (
        Column(found.task, numeric=False),
        Column("metric", numeric=False),
        Column("value"),
        Column("95 % interval"),
        Column("drop in points"),
        Column("of the drop"),
        Column("pictures", detail=True),
        Column("runtime", numeric=False, detail=True),
    )
    rows = [
        (
            _whose(row),
            row.metric,
            ABSENT if row.value is None else f"{100 * row.value:.2f} %",
            _interval(row.interval, 100),
            ABSENT if row.drop is None else f"{row.drop:+.2f}",
            _interval(row.drop_interval, 1, sign="+"),
            figures.count(found.images),
            row.runtime,
        )
        for row in found.scores
    ]
    told = f"{plural(found.images, 'picture')} of {found.available} in {found.source}; {found.labels}. {found.protocol}"
    stand_in = next((r for r in found.scores if r.target == "coreml" and not r.runtime.startswith("Core ML")), None)
    if stand_in:
        told += f" coreml: {stand_in.runtime}."
    if random_weights:
        told = f"Random weights: these figures say nothing about the task. {told}"
    return _table("Task metric", columns, rows, note=told)


def _whose(row: Score) -> str:
    told = f"{row.target} {row.file}".strip() + (f" on {row.device}" if row.device else "")
    return told if row.shipped or not row.target else f"{told}, not shipped"


def _interval(ends: tuple[float, float] | None, unit: float, sign: str = "") -> str:
    return ABSENT if ends is None else f"{unit * ends[0]:{sign}.2f} to {unit * ends[1]:{sign}.2f}"


def float_ops(found: Measurements, several: bool = False) -> Table | None:
    """What works on floats in the shipped int8 file, and why."""
    columns = tuple(Column(title, numeric=False) for title in (_titled("float op", found, several), "where", "reason"))
    rows = [(op.op, op.where, op.reason) for file in found.files[:1] for op in file.float_ops]
    return _table(_titled("Ops that stayed float", found, several), columns, rows, brief=6)


def agreement(found: Verification) -> Table | None:
    """What each int8 file holds, read back: how much of it equals the graph's own integers."""
    columns = (
        Column("read back from", numeric=False),
        Column("parameters"),
        Column("weights"),
        Column("biases"),
        Column("held as", numeric=False),
        Column("differences"),
        Column("added, without effect", detail=True),
        Column("not in the file", detail=True),
    )
    rows = [
        (
            row.file,
            *(_equal(part) for part in (row.parameters, row.weights, row.biases)),
            row.biases_as,
            figures.count(len(row.differences)),
            figures.count(row.added),
            "; ".join(f"{plural(count, 'value')}: {why}" for why, count in Counter(row.absent.values()).items())
            or ABSENT,
        )
        for row in found.agreement
    ]
    note = "Equal to the graph's own, of those compared: scales with zero points, elements of weights, of biases."
    wrong = [f"{row.file}: {d.value}: {d.file}, not {d.graph}" for row in found.agreement for d in row.differences]
    return _table("Integers read back", columns, rows, note=" ".join([note, *wrong[:3]]))


def _equal(part: Compared) -> str:
    counted = figures.count(part.count)
    return counted if part.equal == part.count else f"{figures.count(part.equal)} of {counted}"


def distances(found: Verification) -> Table | None:
    """What the int8 files give, against each other and the interpreter; nothing where TFLite alone was written, whose
    codes are compared with the interpreter's in the first table.
    """
    if [each.target for each in found.targets] == ["tflite"]:
        return None
    columns = (
        Column("free-running", numeric=False),
        Column("against", numeric=False),
        Column("output", numeric=False),
        Column("codes equal"),
        Column("max LSB"),
        Column("codes", detail=True),
    )
    rows = [
        (row.one, row.other, row.output, figures.share(row.equal), str(row.max_lsb), figures.count(row.count))
        for row in found.distances
    ]
    note = (
        "Each file runs on from its own codes: where arithmetic differs, one rounding flips many codes behind it. "
        "What each op does alone stands above."
    )
    return _table("Outputs against each other", columns, rows, note=note)


def files(targets: Sequence[Measurements]) -> Table | None:
    """Size of each file, a target's shipped one first, and what else tells them apart."""
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
    several = len(targets) > 1
    rows = [
        (
            _titled(file.precision if file is found.files[0] else f"{file.precision}, not shipped", found, several),
            figures.megabytes(file.size_bytes),
            figures.ratio(file.size_bytes, twin.size_bytes) if (twin := _float_file(found)) else ABSENT,
            figures.count(file.total_ops),
            figures.count(file.transposes),
            ABSENT if file.partitions is None else str(file.partitions),
            figures.share(file.outside_share),
            file.sha256[:DIGITS],
        )
        for found in targets
        for file in found.files
    ]
    bars = tuple(
        Bar(_titled(file.precision, found, several), file.size_bytes, f"{figures.megabytes(file.size_bytes)} MB")
        for found in targets
        for file in found.files
    )
    charts = (Chart("Size of each file", bars),) if len(bars) > 1 else ()
    return _table("Size", columns, rows, charts=charts)


def latency(targets: Sequence[Measurements]) -> list[Table]:
    """One table per device and number of threads."""
    columns = (
        Column("latency", numeric=False),
        Column("median ms"),
        Column("p90 ms"),
        Column("min ms"),
        Column("time vs float"),
        Column("runs", detail=True),
    )
    several = len(targets) > 1
    places = dict.fromkeys(_place(row) for found in targets for row in found.latency.values())
    tables = []
    for device, threads in places:
        rows, bars = [], []
        for found in targets:
            group = {name: row for name, row in found.latency.items() if _place(row) == (device, threads)}
            base = group["float32"].median_ms if "float32" in group else 0.0
            rows += [
                (
                    _titled(name, found, several),
                    figures.milliseconds(row.median_ms),
                    figures.milliseconds(row.p90_ms),
                    figures.milliseconds(row.min_ms),
                    figures.ratio(row.median_ms, base),
                    str(row.runs),
                )
                for name, row in group.items()
            ]
            bars += [_time_bar(_titled(name, found, several), row) for name, row in group.items()]
        where = "Measured on x86, not on a mobile processor:" if _is_x86(device) else "Measured on"
        note = f"{where} {device}, {plural(threads, 'thread')}"
        runtimes = dict.fromkeys(found.runtime for found in targets if found.latency and found.runtime)
        told = f"Milliseconds an inference, median and 90th percentile. {note}, in {', '.join(runtimes)}"
        chart = Chart(told, tuple(bars))
        tables.append(Table("Latency", columns, tuple(rows), note=note, charts=(chart,)))
    return tables


def _time_bar(label: str, row: Latency) -> Bar:
    return Bar(label, row.median_ms, figures.milliseconds(row.median_ms), row.p90_ms or 0.0)


def gates(gates: Sequence[Gate]) -> Table | None:
    """Each condition with what was measured."""
    columns = (
        Column("gate", numeric=False),
        Column("limit"),
        Column("value"),
        Column("", numeric=False),
        Column("family", numeric=False, detail=True),
    )
    rows = [(gate.label, gate.limit, gate.value, PASS if gate.passed else FAIL, gate.family) for gate in gates]
    return _table("Gates", columns, rows)


def stages(report: Report) -> Table | None:
    """Seconds and peak memory of each stage, and the total."""
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


def top_ops(found: Measurements, several: bool = False) -> Table | None:
    """Where the time of one inference goes in the shipped file."""
    top = found.files[0].top_ops if found.files else ()
    columns = (Column("op", numeric=False), Column("count"), Column("share of time"))
    rows = [(row.op, figures.count(row.count), figures.share(row.share)) for row in top]
    bars = tuple(Bar(row.op, row.share, figures.share(row.share)) for row in top)
    charts = (Chart("Share of the time of one inference", bars),)
    return _table(_titled("Time by kind of op", found, several), columns, rows, charts=charts, detail=True)


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


def _titled(text: str, found: Measurements, several: bool) -> str:
    """With the target ahead where the report has several."""
    return f"{found.target} {text}" if several else text


def _float_file(found: Measurements) -> FileFacts | None:
    return next((file for file in found.files if file.precision == "float32"), None)


def _place(row: Latency) -> tuple[str, int]:
    return row.device.processor, row.threads


def _is_x86(device: str) -> bool:
    return re.search(r"x86|amd64|i[3-6]86", device, re.IGNORECASE) is not None
