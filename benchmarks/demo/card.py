"""Measure demo weights and write their card: python -m benchmarks.demo.card MODEL [PICTURES]

The model is exported twice, as it is by default and with the plainest ranges, minimum and maximum; both are judged on
pictures of the evaluation split, which neither training nor calibration has seen.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import exporter
from benchmarks.demo.sets import labelled
from benchmarks.demo.train import COURSES, Course
from exporter.builtin import demo_weights
from exporter.recipe import load_recipe, read_labels
from exporter.verify.results import Evaluation, Report, Score

PICTURES = 500


def measured(model: str, pictures: int) -> dict[str, Report]:
    """Method of the ranges -> report of an int8 export judged on so many pictures."""
    course = COURSES[model]
    with tempfile.TemporaryDirectory() as folder:
        source = labelled(course.lesson.task, "evaluation", pictures, Path(folder) / "set")
        return {
            method: exporter.export(
                model,
                int8=True,
                weights="demo",
                out=Path(folder) / method,
                check=False,
                calibration={"method": method},
                evaluation={"source": str(source)},
            ).report
            for method in ("mse", "minmax")
        }


def card(model: str, reports: dict[str, Report]) -> str:
    """The card, Markdown."""
    course, report = COURSES[model], reports["mse"]
    recipe = load_recipe(model, weights="demo")
    judged = evaluation(report)
    height, width = recipe.preprocess.size
    about = (
        f"Trained from scratch on procedural scenes (`benchmarks/demo`), for trying the tool: {course.lesson.task}, "
        f"input {height} x {width}, {recipe.num_classes} classes: {', '.join(read_labels(recipe))}."
    )
    told = (
        f"In percent, with 95 % intervals, on pictures 0 to {judged.images - 1} of the split `evaluation`, which "
        "neither training nor calibration has seen. Measured by "
        f"`python -m benchmarks.demo.card {model}` on {report.processor}, {rows(judged, 'int8')[0].runtime}."
    )
    again = (
        f"- Again: `python -m benchmarks.demo.train {model} --out FILE.safetensors`, on one thread. Other processors "
        "and versions of PyTorch round otherwise, and give other weights of like accuracy."
    )
    lines = [
        f"# Demo weights of {model}",
        "",
        about,
        "",
        f"| {judged.images} pictures | {' | '.join(row.metric for row in rows(judged, ''))} |",
        "|---" * (1 + len(rows(judged, ""))) + "|",
        line("PyTorch, float32", rows(judged, "")),
        line("LiteRT, int8, default", rows(judged, "int8")),
        line("LiteRT, int8, min-max ranges", rows(evaluation(reports["minmax"]), "int8")),
        "",
        told,
        "",
        *(f"- {text}" for text in training(course)),
        *([f"- {course.history}"] if course.history else []),
        again,
        f"- {demo_weights(model).stat().st_size / 1e6:.1f} MB, float16. Licence: Apache-2.0, as the project.",
    ]
    return "\n".join(lines) + "\n"


def training(course: Course) -> Iterator[str]:
    """What the weights were trained on, a line a stage."""
    for number, stage in enumerate(course.stages, 1):
        yield (
            f"Stage {number}: {stage.steps} steps of {stage.batch} pictures at {stage.size[0]} x {stage.size[1]}, "
            f"out of {stage.pictures} of the split `train`; AdamW, rate {stage.rate:g}, seed 0."
        )


def evaluation(report: Report) -> Evaluation:
    assert report.verification is not None
    assert report.verification.evaluation is not None
    return report.verification.evaluation


def rows(found: Evaluation, precision: str) -> list[Score]:
    """Of PyTorch where `precision` is empty, else of the file shipped."""
    return [row for row in found.scores if (row.shipped if precision else not row.target)]


def line(name: str, scores: list[Score]) -> str:
    cells = [f"{100 * s.value:.1f} ({100 * s.interval[0]:.1f} to {100 * s.interval[1]:.1f})" for s in scores]
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo.card", description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=sorted(COURSES))
    parser.add_argument("pictures", type=int, nargs="?", default=PICTURES)
    given = parser.parse_args()
    text = card(given.model, measured(given.model, given.pictures))
    demo_weights(given.model).with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
