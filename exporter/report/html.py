"""The report as one HTML page that needs no network: style and charts are inside it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from exporter.report.document import Document, document
from exporter.report.parts import FAIL, PASS, Bar, Chart, Fact, Table
from exporter.verify.results import Panel, Report

_TEMPLATE = Path(__file__).with_name("page.html.j2")
_WIDTH, _VALUE = 440, 64
"""Of a chart, and of the space for the figure behind its longest bar; both in CSS pixels."""
_LABEL, _CHARACTER = 20, 8.0
"""Most characters left of a bar (the whole label is its tooltip), and the width of a wide one."""


@dataclass(frozen=True)
class _Drawn:
    """Bars start at `left`; each has its label as it fits, its length, and how far its thin line goes."""

    width: int
    left: float
    bars: list[tuple[Bar, str, float, float]]


def html(report: Report, folder: Path | None = None) -> str:
    """A complete page, light or dark as the reader's system is; every text of the report is escaped.

    Pictures are taken into the page from the bundle's `folder`; without it the page links them.
    """

    def source(panel: Panel) -> str:
        if folder is None:
            return panel.file
        return "data:image/jpeg;base64," + base64.b64encode((folder / panel.file).read_bytes()).decode("ascii")

    return _render(document(report), source)


def sheet_html(title: str, facts: Sequence[Fact], tables: Sequence[Table]) -> str:
    """A page of facts and tables in the look of a report."""
    return _render(Document(title=title, head=tuple(facts), tables=tuple(tables)), lambda panel: panel.file)


def _render(told: Document, source: Callable[[Panel], str]) -> str:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    return template.render(told=told, draw=_draw, source=source, marks={PASS: "pass", FAIL: "fail"}) + "\n"


def _draw(chart: Chart) -> _Drawn:
    """The longest value gets the longest bar; a negative or infinite one gets none."""
    labels = [_shortened(bar.label) for bar in chart.bars]
    left = round(max(map(len, labels), default=0) * _CHARACTER) + 8
    values = [bar.value if 0 < bar.value < float("inf") else 0.0 for bar in chart.bars]
    reaches = [max(value, bar.reach) for bar, value in zip(chart.bars, values, strict=True)]
    unit = (_WIDTH - _VALUE - left) / (max(reaches, default=0.0) or 1.0)
    lengths, ends = ([round(value * unit, 1) for value in each] for each in (values, reaches))
    return _Drawn(_WIDTH, left, list(zip(chart.bars, labels, lengths, ends, strict=True)))


def _shortened(label: str) -> str:
    """The ends of a long label: outputs often differ in the last part only."""
    return label if len(label) <= _LABEL else f"{label[: _LABEL // 2 - 1]}…{label[-_LABEL // 2 :]}"
