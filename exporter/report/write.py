"""The report's files in a bundle, and files of a report anywhere else."""

from __future__ import annotations

import os
from pathlib import Path

from exporter.errors import UsageError
from exporter.report.html import html
from exporter.report.json import to_json
from exporter.report.junit import report_junit
from exporter.report.markdown import markdown
from exporter.verify.results import Report


def write_report(report: Report, folder: Path) -> None:
    """report.md for people and job summaries, report.html to look at, report.json and junit.xml for machines."""
    (folder / "report.md").write_text(markdown(report), encoding="utf-8")
    (folder / "report.html").write_text(html(report, folder), encoding="utf-8")
    (folder / "report.json").write_text(to_json(report), encoding="utf-8")
    (folder / "junit.xml").write_text(report_junit(report), encoding="utf-8")


def refuse_unwritable(*paths: Path) -> None:
    """UsageError before the work for a file that could not be written after it."""
    for path in paths:
        if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
            raise UsageError(f"cannot write {path}", why="it is a folder, or cannot be written there")


def write_text(path: Path, text: str) -> None:
    """All of it or nothing: a file beside it takes its place. Raises UsageError where the disk refuses."""
    scratch = path.with_name(f".{path.name}.part")
    try:
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(path)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise UsageError(f"cannot write {path}", why=error.strerror or str(error)) from error


def append_text(path: Path, text: str) -> None:
    """Behind what others have written. Raises UsageError where the disk refuses."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"cannot write {path}", why=error.strerror or str(error)) from error
