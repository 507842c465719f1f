"""JUnit XML: a test case for every gate, golden output and device, whose failure says why."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Literal
from xml.etree import ElementTree

from exporter.verify.results import Gate, Report

if TYPE_CHECKING:
    from exporter.verify.bundle import BundleCheck
    from exporter.verify.golden import TargetCheck

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no way to write."""


@dataclass(frozen=True)
class Case:
    """One test case of a suite. `text` says why where it did not pass: an error is one that could not be run."""

    suite: str
    name: str
    state: Literal["passed", "failure", "error", "skipped"] = "passed"
    text: str = ""


def report_junit(report: Report) -> str:
    """The gates of an export."""
    found = report.verification
    cases = list(_gates("gates", found.gates)) if found else []
    none = Case("gates", "gates", "skipped", "no gate was judged" if found else "the files were not run")
    return junit(report.title, cases or [none])


def check_junit(check: BundleCheck) -> str:
    """What `edge-export verify` found."""
    return junit(check.folder, list(_cases(check)))


def junit(name: str, cases: Sequence[Case]) -> str:
    """Cases of one suite stand together. Measured nothing, so no case has a time."""
    root = ElementTree.Element("testsuites", {"name": _clean(name), **_totals(cases)})
    for suite, group in groupby(cases, lambda case: case.suite):
        members = list(group)
        place = ElementTree.SubElement(root, "testsuite", {"name": _clean(suite), **_totals(members)})
        for case in members:
            entry = ElementTree.SubElement(place, "testcase", classname=_clean(suite), name=_clean(case.name))
            if case.state != "passed":
                first = case.text.splitlines()[0] if case.text else case.state
                ElementTree.SubElement(entry, case.state, message=_clean(first)).text = _clean(case.text)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _cases(check: BundleCheck) -> Iterator[Case]:
    wrong = [f"missing  {name}" for name in check.missing] + [f"changed  {name}" for name in check.changed]
    yield Case("files", "as exported", "failure" if wrong else "passed", "\n".join(wrong))
    yield from _gates("gates at export", check.exported)
    for found in check.targets:
        yield from _golden(found)
    for device in dict.fromkeys(row.device for row in check.devices):
        for row in (row for row in check.devices if row.device == device):
            error = str(row.problem.error()).removeprefix("error: ") if row.problem else ""
            yield Case(device, f"{row.file} runs", "error" if row.problem else "passed", error)
            if not row.judged and not row.problem:
                yield Case(device, f"{row.file} against this machine", "skipped", "\n".join(row.notes))
        judged = [gate for gate in check.gates if gate.device == device]
        causes = [f"differs first at {op}" for row in check.devices if row.device == device for op in row.differing]
        yield from _gates(device, [gate.model_copy(update={"device": ""}) for gate in judged], causes)


def _golden(found: TargetCheck) -> Iterator[Case]:
    suite = f"golden outputs of {found.file}"
    if not found.golden:
        yield Case(suite, "all", "skipped", found.golden_note)
    for row in found.golden:
        said = f"differs by {row.difference:.3g}, may be {row.tolerance:.3g}"
        yield Case(suite, row.output, "passed" if row.passed else "failure", "" if row.passed else said)


def _gates(suite: str, gates: Iterable[Gate], causes: Sequence[str] = ()) -> Iterator[Case]:
    """`causes` are of accuracy."""
    for gate in gates:
        said = [f"{gate.value}, must be {gate.limit} ({gate.family})", *(causes if gate.family == "accuracy" else ())]
        yield Case(suite, gate.label, "passed" if gate.passed else "failure", "" if gate.passed else "\n".join(said))


def _totals(cases: Sequence[Case]) -> dict[str, str]:
    states: list[str] = [case.state for case in cases]
    counted = {"failures": "failure", "errors": "error", "skipped": "skipped"}
    return {"tests": str(len(cases)), **{key: str(states.count(state)) for key, state in counted.items()}}


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
