"""Two reports side by side, figure by figure, and how that is printed."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from sample_report import OUTPUTS, changed, efficientdet

from exporter.errors import AccuracyError, BudgetError, DataError
from exporter.report.compare import print_comparison
from exporter.verify.compare import Comparison, compare
from exporter.verify.results import Evaluation, Report, Score
from exporter.verify.sides import Side


def scored(value: float, device: str = "") -> Evaluation:
    of_file = {"target": "tflite", "file": "int8", "runtime": "LiteRT", "shipped": True, "device": device}
    rows = (
        Score(file="PyTorch", runtime="torch", metric="AP", value=0.4, interval=None),
        Score(**of_file, metric="AP", value=value, interval=None),
    )
    facts = {"task": "detection", "source": "val2017", "images": 100, "available": 5000}
    return Evaluation(**facts, labels="700 boxes", protocol="", scores=rows)


def side(name: str, report: Report, *evaluations: Evaluation) -> Side:
    assert report.verification is not None
    return Side(name, report, evaluations=evaluations, gates=report.verification.gates)


def printed(found: Comparison, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_comparison(found, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_output_that_lost_most_stands_for_all() -> None:
    """The worst output of both reports is the last one: another loses."""
    report = efficientdet()
    assert report.verification is not None
    rows = report.verification.targets[0].int8_snr
    worse = (*rows[:2], rows[2].model_copy(update={"pooled": rows[2].pooled - 4}), *rows[3:])  # type: ignore[operator]
    found = compare(side("old", report), side("new", changed(report, int8_snr=worse)))
    (change,) = (change for change in found.changes if change.verdict == "worse")
    assert (change.kind, change.item, change.old, change.new) == ("int8 SNR", OUTPUTS[2], 29.8, 25.8)
    with pytest.raises(AccuracyError, match="new is worse than old in 1 places"):
        found.raise_on_regression()
    assert f"int8 SNR {OUTPUTS[2]}" in printed(found)
    assert "-4 dB" in printed(found)


def test_a_cost_alone_is_a_budget() -> None:
    report = efficientdet()
    assert report.verification is not None
    first, twin = report.verification.targets[0].files
    found = compare(
        side("old", report), side("new", changed(report, files=(first.model_copy(update={"transposes": 2}), twin)))
    )
    with pytest.raises(BudgetError, match="transposes  0 -> 2"):
        found.raise_on_regression()


@pytest.mark.parametrize(("new", "verdict"), [(0.330, "same"), (0.324, "worse"), (0.34, "better")])
def test_the_task_metric_is_compared_place_by_place(new: float, verdict: str) -> None:
    report = efficientdet()
    old = side("old", report, scored(0.33), scored(0.33, "local"))
    found = compare(old, side("new", report, scored(0.33), scored(new, "local")))
    rows = {change.place: change for change in found.changes if change.kind == "task metric"}
    assert {place: change.verdict for place, change in rows.items()} == {
        "tflite, 100 pictures of val2017": "same",
        "tflite on local, 100 pictures of val2017": verdict,
    }
    assert "33.00 points" in printed(found)


def test_other_outputs_are_another_model() -> None:
    report = efficientdet()
    other = report.model_copy(update={"output_shapes": {**report.output_shapes, "extra": (1, 4)}})
    with pytest.raises(DataError, match="different models") as caught:
        compare(side("old", report), side("new", other))
    assert "output_shapes: extra  absent, there (1, 4)" in str(caught.value)


def test_it_fits_into_80_columns() -> None:
    found = compare(side("old", efficientdet()), side("new", efficientdet()))
    assert max(map(len, printed(found, 80).splitlines())) <= 80
    assert found.passed
