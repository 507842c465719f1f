"""Stage report: tables a person can read (console, Markdown, HTML), files a machine can read (JSON, JUnit).

What is imported here needs no torch: doctor must say that it is absent.
"""

from exporter.report.console import print_report
from exporter.report.html import html
from exporter.report.json import from_json, strict_json, to_json
from exporter.report.junit import check_junit, report_junit
from exporter.report.markdown import markdown

__all__ = [
    "check_junit",
    "from_json",
    "html",
    "markdown",
    "print_report",
    "report_junit",
    "strict_json",
    "to_json",
]
