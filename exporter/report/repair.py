"""The repair ladder in the report: what was tried, what each rung gained and cost."""

from __future__ import annotations

from collections.abc import Sequence

from exporter.report import figures
from exporter.report.parts import Column, Table
from exporter.verify.results import Rung


def in_words(rung: Rung) -> str:
    """One rung in a line, for the console while it runs."""
    what = f"{rung.name} ({rung.detail})" if rung.detail else rung.name
    return f"repair: {what}: {_drop(rung)}{'' if rung.kept else ', taken back'}"


def repair_table(rungs: Sequence[Rung]) -> Table | None:
    """A row for every rung tried; none where nothing was to be repaired."""
    if not rungs:
        return None
    rows: list[tuple[str, ...]] = []
    last = rungs[0].drop
    for rung in rungs:
        gained = f"{100 * (last - rung.drop):+.2f}"
        share = figures.share(rung.integer_macs)
        rows.append((rung.name, rung.detail, _drop(rung), gained if rows else "", share, "yes" if rung.kept else "no"))
        last = rung.drop if rung.kept else last
    columns = (
        Column("rung", numeric=False),
        Column("what", numeric=False),
        Column("drop"),
        Column("gained"),
        Column("integer MACs"),
        Column("kept", numeric=False),
    )
    note = "Drops of the task metric below PyTorch's, on the labelled pictures. What gains nothing is undone."
    return Table("Repair of int8", columns, tuple(rows), note)


def _drop(rung: Rung) -> str:
    return f"{100 * rung.drop:.2f} points"
