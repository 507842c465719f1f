"""`edge-export compare` on a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console

from exporter.report import figures
from exporter.report.figures import ABSENT
from exporter.report.parts import FAIL, PASS, Column, Fact, Table
from exporter.report.sheet import Verdict, print_sheet
from exporter.report.tables import gates
from exporter.verify.compare import KINDS, Change, Comparison, Kind

MARKS = {"worse": FAIL, "better": "better", "same": PASS, "": ""}


def print_comparison(found: Comparison, console: Console) -> None:
    """What differs between the two runs, every quantity side by side, gates that broke, verdict."""
    worse = [change.label for change in found.changes if change.verdict == "worse"]
    worse += [gate.label for gate in found.broken]
    better = sum(change.verdict == "better" for change in found.changes)
    said = f"{FAIL}: worse in {', '.join(worse)}" if worse else f"{PASS}: nothing is worse than it may be"
    verdict = Verdict(found.passed, f"{said}; {better} of {figures.plural(len(found.changes), 'figure')} better")
    print_sheet(console, found.model, tuple(_facts(found)), _table(found), gates(found.broken), verdict)


def _facts(found: Comparison) -> Iterator[Fact]:
    yield Fact("old", found.old)
    yield Fact("new", found.new)
    yield from (Fact(name, f"{old} -> {new}") for name, (old, new) in found.differing.items())


def _table(found: Comparison) -> Table | None:
    columns = (
        Column("figure", numeric=False), Column("old"), Column("new"), Column("change"), Column("may be"),
        Column("", numeric=False), Column("of", numeric=False),
    )  # fmt: skip
    rows = tuple(
        (
            " ".join(part for part in (change.kind, change.item) if part),
            *(_written(value, KINDS[change.kind]) for value in (change.old, change.new)),
            _difference(change),
            _allowed(KINDS[change.kind]),
            MARKS[change.verdict],
            change.place,
        )
        for change in found.changes
    )
    note = "Of several outputs the one that lost most. Times are compared on one processor alone."
    return Table("Old and new", columns, rows, note) if rows else None


def _written(value: float | None, kind: Kind) -> str:
    if value is None:
        return ABSENT
    if kind.unit == "dB":
        return "exact" if value == float("inf") else f"{value:.1f} dB"
    if kind.unit == "share":
        return figures.share(value)
    if kind.unit in ("count", "LSB"):
        return figures.count(round(value)) + (" LSB" if kind.unit == "LSB" else "")
    written = {"MB": figures.megabytes, "ms": figures.milliseconds, "points": lambda points: f"{points:.2f}"}
    return f"{written[kind.unit](value)} {kind.unit}"


def _difference(change: Change) -> str:
    """In per cent where that is what is limited, else in the unit."""
    kind = KINDS[change.kind]
    if change.old is None or change.new is None or change.old == change.new:
        return ABSENT
    if kind.relative and change.old:
        return f"{100 * (change.new / change.old - 1):+.2f} %"
    scale, unit = (100, " points") if kind.unit == "share" else (1, f" {kind.unit}")
    return f"{scale * (change.new - change.old):+.4g}{'' if kind.unit == 'count' else unit}"


def _allowed(kind: Kind) -> str:
    """How much worse."""
    if not kind.more:
        return ABSENT
    sign = "-" if kind.more == "better" else "+"
    absolute = f"{100 * kind.absolute:g} points" if kind.unit == "share" else f"{kind.absolute:g} {kind.unit}"
    allowed = [f"{100 * kind.relative:g} %"] if kind.relative else []
    allowed += [absolute] if kind.absolute else []
    return f"{sign}{' or '.join(allowed)}" if allowed else "no worse"
