"""The report on a terminal: compact, tables side by side where they fit, plain text where there are no colours."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from exporter.report.tables import FAIL, PASS, Fact, Table, describe
from exporter.verify.results import Report

_GAP = 4
_STYLES = {PASS: "green", FAIL: "bold red"}
_VERDICT = {True: "bold green", False: "bold red", None: "bold yellow"}


def print_report(report: Report, console: Console) -> None:
    """What a mobile engineer wants to see after a run. Text is printed as it is: no markup in it is followed."""
    told = describe(report)
    say = _Writer(console)
    say.out(say.text(told.title, "bold"))
    say.out(say.facts(told.head))
    say.out()
    say.out(say.text(told.verdict, _VERDICT[told.passed]))
    for warning in told.warnings:
        say.out(say.text(f"warning: {warning}", "yellow"))
    if told.shipped:
        say.out()
        say.out(say.facts(told.shipped))
    for row in _side_by_side([table for table in told.tables if not table.detail], say):
        say.out()
        say.out(_beside([say.table(table) for table in row]))
        for note in (note for table in row for note in _notes(table)):
            say.out(say.text(note, "dim"))


class _Writer:
    """Renders to what `console` can show: its encoding may lack the signs."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def out(self, block: RenderableType = "") -> None:
        self.console.print(block, highlight=False, markup=False)

    def text(self, text: str, style: str = "") -> Text:
        if self.console.options.ascii_only:
            text = text.translate(_ASCII).encode(self.console.encoding, "replace").decode(self.console.encoding)
        return Text(text, style)

    def facts(self, facts: Iterable[Fact]) -> Grid:
        grid = Grid.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True, style="dim")
        grid.add_column(overflow="fold")
        for fact in facts:
            if not fact.detail:
                grid.add_row(self.text(fact.label), self.text(fact.text, "bold red" if fact.loud else ""))
        return grid

    def table(self, table: Table) -> Grid:
        shown = [i for i, column in enumerate(table.columns) if not column.detail]
        grid = Grid(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
        for i in shown:
            column = table.columns[i]
            grid.add_column(
                self.text(column.title),
                justify="right" if column.numeric else "left",
                no_wrap=column.numeric,
                overflow="fold",
            )
        for row in table.rows[: table.brief]:
            grid.add_row(*(self.text(row[i], _STYLES.get(row[i], "")) for i in shown))
        return grid


_ASCII = str.maketrans({"✓": "+", "✗": "x", "–": "-", "·": "-", "…": "...", "≥": ">=", "≤": "<=", "×": "x", "∞": "inf"})


def _notes(table: Table) -> Iterable[str]:
    if table.note:
        yield table.note
    if len(table.rows) > table.brief:
        yield f"{len(table.rows) - table.brief} more rows in report.md and report.html"


def _side_by_side(tables: Iterable[Table], say: _Writer) -> list[list[Table]]:
    """Neighbours share a row where all of them fit without wrapping."""
    rows: list[list[Table]] = []
    for table in tables:
        beside = [*rows[-1], table] if rows else [table]
        width = sum(say.console.measure(say.table(t)).maximum + _GAP for t in beside) - _GAP
        if rows and width <= say.console.width:
            rows[-1].append(table)
        else:
            rows.append([table])
    return rows


def _beside(tables: list[Grid]) -> Grid:
    if len(tables) == 1:
        return tables[0]
    row = Grid.grid(padding=(0, _GAP, 0, 0))
    row.add_row(*tables)
    return row
