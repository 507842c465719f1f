"""The report as GitHub-flavoured Markdown, fit for a CI job's summary."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

from exporter.report.document import document
from exporter.report.parts import FAIL, Fact, Table
from exporter.report.sheet import Part, Verdict
from exporter.verify.results import Picture, Report

_SPECIAL = re.compile(r"([\\`*\[\]<>|~$#]|(?<!\w)_|_(?!\w))")


def markdown(report: Report) -> str:
    """Headings, lists and pipe tables; every text of the report is escaped."""
    told = document(report)
    verdict = f"**{_escape(told.verdict)}**"
    blocks = [f"## {_escape(told.title)}", _alert(told.head), _facts(f for f in told.head if not f.loud), verdict]
    blocks.append("\n".join(f"- warning: {_escape(warning)}" for warning in told.warnings))
    if told.shipped:
        blocks += ["### Shipped file", _facts(told.shipped)]
    if told.pictures:
        blocks += ["### Pictures", _escape(told.pictures_note), *map(_picture, told.pictures)]
    for table in told.tables:
        blocks += [f"### {_escape(table.title)}", _table(table), _escape(table.note)]
    blocks += ["### Run", _facts(told.run)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def markdown_sheet(title: str, *parts: Part) -> str:
    """The same for what `print_sheet` prints, every column shown."""
    blocks = [f"## {_escape(title)}"]
    for part in parts:
        if isinstance(part, Verdict):
            blocks.append(f"**{_escape(part.text)}**")
        elif isinstance(part, Table):
            blocks += [f"### {_escape(part.title)}", _table(part), _escape(part.note)]
        elif part:
            blocks += [_alert(part), _facts(fact for fact in part if not fact.loud)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _alert(facts: Iterable[Fact]) -> str:
    """GitHub's warning box; elsewhere a quotation."""
    loud = [f"> **{_escape(f'{fact.label} {fact.text}'.strip())}**" for fact in facts if fact.loud]
    return "\n".join(["> [!WARNING]", *loud]) if loud else ""


def _facts(facts: Iterable[Fact]) -> str:
    labelled = ((_escape(fact.label), _escape(fact.text)) for fact in facts)
    return "\n".join(f"- **{label}**: {text}" if label else f"- {text}" for label, text in labelled)


def _picture(picture: Picture) -> str:
    """A table with one row: the files of the bundle side by side."""
    lines = [
        [_escape(f"{picture.name}: {panel.by}" if i == 0 else panel.by) for i, panel in enumerate(picture.panels)],
        [":---"] * len(picture.panels),
        [f"![{_escape(f'{picture.name}, {panel.by}')}]({quote(panel.file)})" for panel in picture.panels],
        [_escape(panel.text) for panel in picture.panels],
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _table(table: Table) -> str:
    lines = [
        [_escape(column.title) for column in table.columns],
        ["---:" if column.numeric else ":---" for column in table.columns],
        *([f"**{cell}**" if cell == FAIL else _escape(cell) for cell in row] for row in table.rows),
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _escape(text: str) -> str:
    """Plain text on one line: a `_` inside a word needs no escape in this dialect and stays readable."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split())).replace("&", "&amp;")
