"""Stage report: one set of tables a person can read (console, Markdown, HTML), one file a machine can read (JSON)."""

from exporter.report.console import print_report
from exporter.report.html import html
from exporter.report.json import from_json, to_json
from exporter.report.markdown import markdown

__all__ = ["from_json", "html", "markdown", "print_report", "to_json"]
