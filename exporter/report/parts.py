"""What a document is made of: plain text in facts, tables and charts. `detail` marks what the console leaves out."""

from __future__ import annotations

from dataclasses import dataclass

PASS, FAIL = "✓ pass", "✗ FAIL"


@dataclass(frozen=True)
class Fact:
    """One labelled sentence."""

    label: str
    text: str
    detail: bool = False
    loud: bool = False


@dataclass(frozen=True)
class Column:
    """`numeric` columns are aligned right."""

    title: str
    numeric: bool = True
    detail: bool = False


@dataclass(frozen=True)
class Bar:
    """`value` sets the length; `text` is written beside it. A thin line goes on to `reach`, where that is further."""

    label: str
    value: float
    text: str
    reach: float = 0.0


@dataclass(frozen=True)
class Chart:
    """Bars on one scale that starts at 0."""

    title: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Table:
    """`brief` is the number of rows the console shows at most."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    charts: tuple[Chart, ...] = ()
    detail: bool = False
    brief: int = 16
    svg: str = ""
    """A picture, ready to stand in a page."""
