"""The table of layers where int8 loses accuracy, and what to try."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from exporter.report import figures
from exporter.report.figures import plural
from exporter.report.layers_svg import layers_svg
from exporter.report.parts import Column, Fact, Table
from exporter.verify.results import Diagnosis

SHOWN = 10


def layers_table(found: Diagnosis, most: int = SHOWN, *, command: str = "") -> Table:
    """The layers of most effect on the outputs, with the picture of all of them, and the advice as its note."""
    columns = (
        Column("#"),
        Column("module", numeric=False),
        Column("op", numeric=False),
        Column("own dB"),
        Column("inherited dB"),
        Column("of the output error"),
        Column("cause", numeric=False),
        Column("line", numeric=False),
    )
    rows = tuple(
        (
            str(rank),
            row.place,
            row.op,
            figures.decibels(row.own_snr),
            figures.decibels(row.inherited_snr),
            f"{100 * row.effect:.1f} %" + ("" if row.measured else " est."),
            row.cause,
            row.line,
        )
        for rank, row in enumerate((r for r in found.layers[:most] if r.effect > 0), 1)
    )
    note = " ".join(
        [_explained(found), *(f"{fact.label.capitalize()}: {fact.text}." for fact in advice(found, command))]
    )
    return Table("Where int8 loses accuracy", columns, rows, note, svg=layers_svg(found), brief=most)


def advice(found: Diagnosis, command: str) -> tuple[Fact, ...]:
    """What to try, and what it gains: foretold and measured."""
    if found.advice is None:
        return ()
    told = found.advice
    integer = f"; {figures.share(told.integer_macs)} of the MACs stay integer" if told.integer_macs is not None else ""
    return (
        Fact("try", retry(command, told.keep_float)),
        Fact(
            "gain",
            f"{_db(found.output_snr)} -> {_db(told.expected_snr)} expected, {_db(told.measured_snr)} measured, on the "
            f"same {plural(found.samples, 'sample')}{integer}",
        ),
    )


def retry(command: str, globs: Sequence[str]) -> str:
    """The export that keeps these in float."""
    if not command.startswith("edge-export"):
        return f"quantize={{'keep_float': {list(globs)!r}}}"
    return " ".join([command, *(f"--keep-float {shlex.quote(glob)}" for glob in globs)])


def _db(snr: float | None) -> str:
    return "exact" if snr is None else f"{snr:.1f} dB"


def _explained(found: Diagnosis) -> str:
    told = (
        "Own: what a layer adds by itself. Inherited: what reached it. Of the output error: what the own error does to "
        "the outputs, measured, or estimated from random projections (est.)."
    )
    return (
        told if found.accounted is None else f"{told} Effects add up to the output error to {found.accounted:+.1f} dB."
    )
