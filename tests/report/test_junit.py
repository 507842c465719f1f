"""JUnit XML as CI systems read it: https://github.com/testmoapp/junitxml lists what they agree on."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from sample_report import changed, efficientdet

from exporter.report.junit import Case, junit, report_junit

HOSTILE = "a <b> & \"c\" 'd' \x00\x1b[1m ]]> é \ud800"
STATES = {"failures": "failure", "errors": "error", "skipped": "skipped"}


def parsed(text: str) -> ElementTree.Element:
    """Root of a file whose counts add up and whose elements are those of the format."""
    root = ElementTree.fromstring(text.encode())
    assert root.tag == "testsuites"
    for place in (root, *root):
        cases = list(place.iter("testcase"))
        assert place.attrib.keys() == {"name", "tests", *STATES}
        assert int(place.get("tests")) == len(cases)
        for attribute, tag in STATES.items():
            assert int(place.get(attribute)) == sum(case.find(tag) is not None for case in cases)
    assert {suite.tag for suite in root} == {"testsuite"}
    for case in root.iter("testcase"):
        assert case.attrib.keys() == {"classname", "name"}
        assert [(child.tag in STATES.values(), list(child.attrib)) for child in case] in ([], [(True, ["message"])])
    return root


def test_the_gates_of_a_report_are_its_cases() -> None:
    report = efficientdet()
    root = parsed(report_junit(report))
    assert report.verification is not None
    assert [case.get("name") for case in root.iter("testcase")] == [gate.label for gate in report.verification.gates]
    (failure,) = root.iter("failure")
    assert failure.get("message") == failure.text == "22.8 dB, must be >= 25 dB (accuracy)"


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (changed(efficientdet(), gates=()), "no gate was judged"),
        (efficientdet().model_copy(update={"verification": None}), "the files were not run"),
    ],
)
def test_what_was_not_judged_is_skipped_and_not_passed(report, said) -> None:
    (skipped,) = parsed(report_junit(report)).iter("skipped")
    assert skipped.get("message") == said


def test_every_state_and_any_text() -> None:
    cases = [
        Case("one", HOSTILE),
        Case("one", "wrong", "failure", f"{HOSTILE}\nsecond line"),
        Case("two", "gone", "error", HOSTILE),
        Case("two", "unjudged", "skipped", HOSTILE),
    ]
    root = parsed(junit(HOSTILE, cases))
    assert [(suite.get("name"), suite.get("tests")) for suite in root] == [("one", "2"), ("two", "2")]
    readable = "a <b> & \"c\" 'd' \ufffd\ufffd[1m ]]> é \ufffd"
    assert root.get("name") == readable
    (failure,) = root.iter("failure")
    assert (failure.get("message"), failure.text) == (readable, f"{readable}\nsecond line")
