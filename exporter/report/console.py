"""The report on a terminal: compact, tables side by side where they fit, plain text where there are no colours."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from rich.cells import cell_len
from rich.console import Console, JustifyMethod, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from exporter.report.document import document
from exporter.report.parts import FAIL, PASS, Fact, Table
from exporter.verify.results import Report

_PAD, _GAP = 2, 4
"""Blanks behind a column, and between two tables."""
_NARROWEST = 6
_STYLES = {PASS: "green", FAIL: "bold red"}
VERDICT = {True: "bold green", False: "bold red", None: "bold yellow"}


def print_report(report: Report, console: Console) -> None:
    """What a mobile engineer wants to see after a run. Text is printed as it is: no markup in it is followed."""
    told = document(report)
    say = Writer(console)
    say.out(say.text(told.title, "bold"))
    say.out(say.facts(told.head))
    say.out()
    say.out(say.text(told.verdict, VERDICT[told.passed]))
    for warning in told.warnings:
        say.out(say.text(f"warning: {warning}", "yellow"))
    if told.shipped:
        say.out()
        say.out(say.facts(told.shipped))
    for row in _side_by_side([_brief(table) for table in told.tables if not table.detail], console.width):
        say.out()
        say.out(say.beside(row))
        for table in row:
            if table.note:
                say.out(say.text(table.note, "dim"))


class Writer:
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
        grid = Grid(box=None, padding=(0, _PAD, 0, 0), pad_edge=False, header_style="bold")
        for column, width in zip(table.columns, _widths(table, self.console.width), strict=True):
            justify: JustifyMethod = "right" if column.numeric else "left"
            grid.add_column(self.text(column.title), justify=justify, overflow="fold", width=width)
        for row in table.rows:
            grid.add_row(*(self.text(cell, _STYLES.get(cell, "")) for cell in row))
        return grid

    def beside(self, tables: list[Table]) -> Grid:
        row = Grid.grid(padding=(0, _GAP, 0, 0))
        row.add_row(*(self.table(table) for table in tables))
        return row if len(tables) > 1 else self.table(tables[0])


_ASCII = str.maketrans({"✓": "+", "✗": "x", "–": "-", "·": "-", "…": "...", "≥": ">=", "≤": "<=", "×": "x", "∞": "inf"})


def _brief(table: Table) -> Table:
    """Without details; the rows left out are counted in the note."""
    shown = [i for i, column in enumerate(table.columns) if not column.detail]
    hidden = len(table.rows) - table.brief
    note = f"{hidden} more rows in report.md and report.html. {table.note}" if hidden > 0 else table.note
    columns = tuple(table.columns[i] for i in shown)
    return replace(
        table, columns=columns, rows=tuple(tuple(row[i] for i in shown) for row in table.rows[: table.brief]), note=note
    )


def _natural(table: Table) -> list[int]:
    """Widths of the columns when nothing wraps."""
    titles = tuple(column.title for column in table.columns)
    return [max(map(cell_len, cells)) for cells in zip(titles, *table.rows, strict=True)]


def _widths(table: Table, room: int) -> list[int]:
    """Of each column. Where room is short, titles wrap and text is folded, but no number is."""
    widths = _natural(table)
    room -= _PAD * (len(widths) - 1)
    if sum(widths) <= room:
        return widths
    texts = []
    for i, column in enumerate(table.columns):
        if column.numeric:
            words = (*column.title.split(), *(row[i] for row in table.rows))
            widths[i] = max(map(cell_len, words))
        else:
            texts.append(i)
    room -= sum(width for i, width in enumerate(widths) if i not in texts)
    for left, i in zip(range(len(texts), 0, -1), sorted(texts, key=widths.__getitem__), strict=True):
        widths[i] = min(widths[i], max(_NARROWEST, room // left))
        room -= widths[i]
    return widths


def _side_by_side(tables: Iterable[Table], room: int) -> list[list[Table]]:
    """Neighbours share a row where all of them fit without wrapping."""
    rows: list[list[Table]] = []
    used = room
    for table in tables:
        width = sum(_natural(table)) + _PAD * (len(table.columns) - 1)
        if used + _GAP + width <= room:
            rows[-1].append(table)
            used += _GAP + width
        else:
            rows.append([table])
            used = width
    return rows
