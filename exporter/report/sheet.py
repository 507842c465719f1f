"""What `verify`, `inspect`, `list` and `doctor` print: facts and tables, in the look of a report."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rich.console import Console

from exporter.report.console import VERDICT, Writer
from exporter.report.parts import Fact, Table


@dataclass(frozen=True)
class Verdict:
    """The sentence that the others lead to, coloured by `passed` (None: nothing was judged)."""

    passed: bool | None
    text: str


Part = tuple[Fact, ...] | Table | Verdict | None
"""None and empty ones are left out."""


def print_sheet(console: Console, title: str, *parts: Part) -> None:
    """Title and parts, a blank line between them. All rows of a table are shown."""
    say = Writer(console)
    if title:
        say.out(say.text(title, "bold"))
    for index, part in enumerate(part for part in parts if part):
        if index or (title and isinstance(part, Table)):
            say.out()
        if isinstance(part, Verdict):
            say.out(say.text(part.text, VERDICT[part.passed]))
        elif isinstance(part, Table):
            say.out(say.table(_shown(part)))
            if part.note:
                say.out(say.text(part.note, "dim"))
        else:
            say.out(say.facts(part))


def _shown(table: Table) -> Table:
    """Without the columns that are details."""
    shown = [i for i, column in enumerate(table.columns) if not column.detail]
    columns = tuple(table.columns[i] for i in shown)
    return replace(table, columns=columns, rows=tuple(tuple(row[i] for i in shown) for row in table.rows))
