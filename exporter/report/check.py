"""`edge-export verify` on a terminal: what `verify_bundle` found."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console

from exporter.report import figures
from exporter.report.parts import FAIL, PASS, Column, Fact, Table
from exporter.report.sheet import Verdict, print_sheet
from exporter.verify.bundle import BundleCheck


def print_check(check: BundleCheck, console: Console) -> None:
    """Files, runtime, latency, golden outputs, verdict."""
    columns = (Column("golden output", numeric=False), Column("difference"), Column("tolerance"), Column("", False))
    rows = tuple(
        (row.output, figures.error(row.difference), figures.error(row.tolerance), PASS if row.passed else FAIL)
        for row in check.golden
    )
    table = Table("Golden outputs", columns, rows) if rows else None
    verdict = Verdict(check.passed, f"{PASS if check.passed else FAIL}: {_verdict(check)}")
    print_sheet(console, f"{check.folder}/{check.file}", tuple(_facts(check)), table, verdict)


def _facts(check: BundleCheck) -> Iterator[Fact]:
    yield Fact("model", check.model)
    yield Fact("files", f"{check.files - len(check.missing) - len(check.changed)} of {check.files} as exported")
    yield from (Fact("missing", name, loud=True) for name in check.missing)
    yield from (Fact("changed", name, loud=True) for name in check.changed)
    yield from (Fact("extra", f"{name}, not in the manifest") for name in check.extra)
    yield Fact("processor", check.processor)
    if check.runtime:
        then = check.runtime_at_export
        yield Fact(
            "runtime", f"{check.runtime}, " + ("as at export" if check.runtime == then else f"exported with {then}")
        )
    if row := check.latency:
        yield Fact(
            "latency",
            f"median {figures.milliseconds(row.median_ms)} ms, p90 {figures.milliseconds(row.p90_ms)} ms "
            f"({figures.plural(row.threads, 'thread')}, {figures.plural(row.runs, 'run')})",
        )
    if check.golden_note:
        yield Fact("golden", f"not run: {check.golden_note}")


def _verdict(check: BundleCheck) -> str:
    damage = [
        f"{len(names)} {kind}" for kind, names in (("missing", check.missing), ("changed", check.changed)) if names
    ]
    files = (
        f"{' and '.join(damage)} of {figures.plural(check.files, 'file')}"
        if damage
        else f"all {figures.plural(check.files, 'file')} as exported"
    )
    if not check.golden:
        return f"{files}, golden outputs not compared"
    good = sum(row.passed for row in check.golden)
    return f"{files}, {good} of {figures.plural(len(check.golden), 'golden output')} within tolerance"
