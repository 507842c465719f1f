"""`edge-export verify` on a terminal: what `verify_bundle` found."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console

from exporter.report import figures
from exporter.report.parts import FAIL, PASS, Column, Fact, Table
from exporter.report.sheet import Verdict, print_sheet
from exporter.verify.bundle import BundleCheck, TargetCheck


def print_check(check: BundleCheck, console: Console) -> None:
    """Files, then for each target runtime, latency and golden outputs; verdict."""
    several = len(check.targets) > 1
    tables = [table for found in check.targets if (table := _golden(found, several))]
    verdict = Verdict(check.passed, f"{PASS if check.passed else FAIL}: {_verdict(check)}")
    title = check.folder if several else "/".join([check.folder, *(found.file for found in check.targets)])
    print_sheet(console, title, tuple(_facts(check)), *tables, verdict)


def _golden(found: TargetCheck, several: bool) -> Table | None:
    columns = (Column("golden output", numeric=False), Column("difference"), Column("tolerance"), Column("", False))
    rows = tuple(
        (row.output, figures.error(row.difference), figures.error(row.tolerance), PASS if row.passed else FAIL)
        for row in found.golden
    )
    return Table("Golden outputs", columns, rows, note=found.file if several else "") if rows else None


def _facts(check: BundleCheck) -> Iterator[Fact]:
    yield Fact("model", check.model)
    yield Fact("files", f"{check.files - len(check.missing) - len(check.changed)} of {check.files} as exported")
    yield from (Fact("missing", name, loud=True) for name in check.missing)
    yield from (Fact("changed", name, loud=True) for name in check.changed)
    yield from (Fact("extra", f"{name}, not in the manifest") for name in check.extra)
    yield Fact("processor", check.processor)
    for found in check.targets:
        if len(check.targets) > 1:
            yield Fact(found.target, found.file)
        yield from _run(found)


def _run(found: TargetCheck) -> Iterator[Fact]:
    if found.runtime:
        then = found.runtime_at_export
        yield Fact(
            "runtime", f"{found.runtime}, " + ("as at export" if found.runtime == then else f"exported with {then}")
        )
    if row := found.latency:
        yield Fact(
            "latency",
            f"median {figures.milliseconds(row.median_ms)} ms, p90 {figures.milliseconds(row.p90_ms)} ms "
            f"({figures.plural(row.threads, 'thread')}, {figures.plural(row.runs, 'run')})",
        )
    if found.golden_note:
        yield Fact("golden", f"not run: {found.golden_note}")


def _verdict(check: BundleCheck) -> str:
    damage = [
        f"{len(names)} {kind}" for kind, names in (("missing", check.missing), ("changed", check.changed)) if names
    ]
    files = (
        f"{' and '.join(damage)} of {figures.plural(check.files, 'file')}"
        if damage
        else f"all {figures.plural(check.files, 'file')} as exported"
    )
    golden = [row for found in check.targets for row in found.golden]
    if not golden:
        return f"{files}, golden outputs not compared"
    good = sum(row.passed for row in golden)
    return f"{files}, {good} of {figures.plural(len(golden), 'golden output')} within tolerance"
