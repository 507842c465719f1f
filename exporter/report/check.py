"""`edge-export verify` on a terminal: what `verify_bundle` found."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console

from exporter.report import devices, figures
from exporter.report.markdown import markdown_sheet
from exporter.report.parts import FAIL, PASS, Column, Fact, Table
from exporter.report.sheet import Part, Verdict, print_sheet
from exporter.report.tables import evaluation, gates
from exporter.verify.bundle import BundleCheck
from exporter.verify.golden import TargetCheck


def print_check(check: BundleCheck, console: Console) -> None:
    """Files, then for each target runtime, latency and golden outputs; devices; verdict."""
    title, parts = sheet(check)
    print_sheet(console, title, *parts)


def summarise(check: BundleCheck) -> str:
    """The same as Markdown, for a CI job's summary."""
    title, parts = sheet(check)
    return markdown_sheet(title, *parts)


def sheet(check: BundleCheck) -> tuple[str, tuple[Part, ...]]:
    """Title and parts."""
    several = len(check.targets) > 1
    title = check.folder if several else "/".join([check.folder, *(found.file for found in check.targets)])
    return title, (
        tuple(_facts(check)),
        *(_golden(found, several) for found in check.targets),
        tuple(devices.facts(check.devices)),
        *devices.tables(check.devices),
        evaluation(check.evaluation, check.report is not None and check.report.random_weights),
        gates(check.gates),
        Verdict(check.passed, f"{PASS if check.passed else FAIL}: {_verdict(check)}"),
    )


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
    good = f"{sum(row.passed for row in golden)} of {figures.plural(len(golden), 'golden output')} within tolerance"
    told = [files, good if golden else "golden outputs not compared"]
    lost = dict.fromkeys(row.device for row in check.devices if row.problem)
    told += [f"{', '.join(lost)} did not run"] if lost else []
    for judged, when in ((check.exported, " at export"), (check.gates, "")):
        failed = [f"{gate.label} {gate.value} (limit {gate.limit})" for gate in judged if not gate.passed]
        if judged:
            told.append(f"{len(judged) - len(failed)} of {figures.plural(len(judged), 'gate')} held{when}")
        told += failed
    return ", ".join(told)
