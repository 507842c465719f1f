"""What a report says, in reading order; console, Markdown and HTML only print it."""

from __future__ import annotations

from dataclasses import dataclass

from exporter.report import facts, tables
from exporter.report.layers import layers_table
from exporter.report.parts import Fact, Table
from exporter.report.repair import repair_table
from exporter.verify.results import Picture, Report, Verification


@dataclass(frozen=True)
class Document:
    """A whole report in reading order. `passed` is None where nothing was judged."""

    title: str
    head: tuple[Fact, ...]
    passed: bool | None = None
    verdict: str = ""
    warnings: tuple[str, ...] = ()
    shipped: tuple[Fact, ...] = ()
    pictures: tuple[Picture, ...] = ()
    pictures_note: str = ""
    tables: tuple[Table, ...] = ()
    run: tuple[Fact, ...] = ()


def document(report: Report) -> Document:
    """Everything there is to say about one run."""
    found = report.verification or Verification()
    passed, verdict = facts.verdict(report.verification)
    targets, several = found.targets, len(found.targets) > 1
    listed = (
        tables.evaluation(found.evaluation, report.random_weights),
        repair_table(found.repair),
        layers_table(found.diagnosis, command=report.command) if found.diagnosis else None,
        *(table(each, several) for each in targets for table in (tables.parity, tables.detections, tables.float_ops)),
        tables.agreement(found),
        tables.distances(found),
        tables.files(targets),
        *tables.latency(targets),
        tables.gates(found.gates),
        tables.stages(report),
        *(tables.top_ops(each, several) for each in targets),
    )
    return Document(
        title=f"{report.title} · {report.precision} · {', '.join(report.targets)}",
        head=facts.head(report),
        passed=passed,
        verdict=verdict,
        warnings=found.warnings,
        shipped=tuple(fact for each in targets for fact in facts.shipped(each, several, found.integer_macs)),
        pictures=report.pictures,
        pictures_note=report.pictures_note,
        tables=tuple(table for table in listed if table),
        run=facts.run(report),
    )
