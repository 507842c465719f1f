"""What a report says, in reading order; console, Markdown and HTML only print it."""

from __future__ import annotations

from dataclasses import dataclass

from exporter.report import facts, tables
from exporter.report.parts import Fact, Table
from exporter.verify.results import Report, Verification


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


def document(report: Report) -> Document:
    """Everything there is to say about one run."""
    found = report.verification or Verification()
    passed, verdict = facts.verdict(report.verification)
    listed = (
        tables.parity(found),
        tables.detections(found),
        tables.float_ops(found),
        tables.files(found),
        *tables.latency(found),
        tables.gates(found.gates),
        tables.stages(report),
        tables.top_ops(found),
    )
    return Document(
        title=f"{report.title} · {report.precision} · {report.target}",
        head=facts.head(report),
        passed=passed,
        verdict=verdict,
        warnings=found.warnings,
        shipped=facts.shipped(found.files[0], report.target) if found.files else (),
        tables=tuple(table for table in listed if table),
        run=facts.run(report),
    )
