"""The report's files in a bundle."""

from __future__ import annotations

from pathlib import Path

from exporter.report.html import html
from exporter.report.json import to_json
from exporter.report.markdown import markdown
from exporter.verify.results import Report


def write_report(report: Report, folder: Path) -> None:
    """report.md for people and job summaries, report.html to look at, report.json for machines."""
    (folder / "report.md").write_text(markdown(report), encoding="utf-8")
    (folder / "report.html").write_text(html(report), encoding="utf-8")
    (folder / "report.json").write_text(to_json(report), encoding="utf-8")
