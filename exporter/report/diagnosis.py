"""`edge-export diagnose` on a terminal and as files."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from exporter.errors import UsageError
from exporter.report import figures
from exporter.report.html import sheet_html
from exporter.report.json import strict_json
from exporter.report.layers import SHOWN, advice, layers_table
from exporter.report.layers_svg import layers_svg
from exporter.report.parts import Fact, Table
from exporter.report.sheet import print_sheet
from exporter.report.write import write_text
from exporter.verify.results import Diagnosis


def print_diagnosis(found: Diagnosis, console: Console, title: str, command: str, most: int = SHOWN) -> None:
    """Facts, ranked layers, advice."""
    print_sheet(console, title, _facts(found), _without_advice(found, most), advice(found, command))


def write_diagnosis(found: Diagnosis, folder: Path, title: str, command: str) -> None:
    """diagnosis.html with the picture and all layers, diagnosis.svg, diagnosis.json. Raises UsageError where the folder
    cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write to {folder}", why=error.strerror or str(error)) from error
    table = _without_advice(found, len(found.layers))
    write_text(folder / "diagnosis.html", sheet_html(title, (*_facts(found), *advice(found, command)), [table]))
    write_text(folder / "diagnosis.svg", layers_svg(found))
    write_text(folder / "diagnosis.json", strict_json(found.model_dump()))


def _without_advice(found: Diagnosis, most: int) -> Table:
    return layers_table(found.model_copy(update={"advice": None}), most)


def _facts(found: Diagnosis) -> tuple[Fact, ...]:
    outputs = ", ".join(f"{name} {figures.decibels(snr)}" for name, snr in found.outputs.items())
    return (
        Fact("outputs", f"{outputs} dB against the float model"),
        Fact("together", f"{figures.decibels(found.output_snr)} dB, every output counting alike"),
        Fact("samples", f"{found.samples}, not calibrated on where there were enough"),
    )
