"""The stages in order. Reads like a table of contents: build, capture, simplify, quantize, lower, verify, report."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import Tensor, nn

from exporter import bundle
from exporter.build import model_info
from exporter.build.postprocess import Decoded
from exporter.capture import capture
from exporter.errors import ExportError, RuntimeUnavailable, UnsupportedError, UsageError, nearest
from exporter.inputs import Inputs, describe_samples, evaluating, licences, load_inputs, state_sha256
from exporter.ir.graph import Graph
from exporter.ir.tail import body
from exporter.ir.text import graph_text
from exporter.lower import NAMES, Target, target
from exporter.lower.facts import Facts
from exporter.progress import STAGES, Stages
from exporter.quantize import quantize
from exporter.quantize.assign import Plan
from exporter.quantize.calibrate import Ranges, calibrate, observe
from exporter.quantize.data import Arrays, Pictures, source_name, source_path
from exporter.quantize.equalize import Octaves, equalize
from exporter.quantize.guards import few_pictures, value_warnings
from exporter.quantize.keep_float import kept_float
from exporter.quantize.plan import check_plan, read_plan, write_plan
from exporter.quantize.sample_guards import Watch, batchnorm_warnings
from exporter.quantize.sensitivity import steps
from exporter.recipe import Gates, Recipe, read_labels
from exporter.repair import LOOKED_AT, Attempt, Workshop, climb, judge_of
from exporter.report.describe import describe, versions
from exporter.report.pictures import pictures_note, write_pictures
from exporter.report.repair import in_words
from exporter.report.write import write_report
from exporter.simplify import simplify
from exporter.verify.comparison import Artifact
from exporter.verify.gallery import Gallery
from exporter.verify.localize import PROBES, SAMPLES, diagnose, wanted
from exporter.verify.marks import marks_reader
from exporter.verify.metrics.evaluate import Runner, evaluate
from exporter.verify.metrics.labelled import open_labelled
from exporter.verify.metrics.protocol import Labelled, LabelledSet, Model
from exporter.verify.metrics.runners import is_quick, runners
from exporter.verify.results import Diagnosis, Evaluation, Report, Rung, Verification
from exporter.verify.target import TargetFiles
from exporter.verify.verify import DROWNED, verify

FURTHER_SAMPLES = 1
"""Held-out samples on which the second target and those behind it run, without float twins: they hold the first one's
integers, read back, and every op of theirs is compared by itself.
"""


class Pipeline:
    """One run of a recipe. Each stage is a method and leaves its result in an attribute."""

    inputs: Inputs
    graph: Graph
    """Float, simplified; the quantised one is `lowered`."""
    lowered: Graph
    plan: Plan | None = None
    islands: dict[str, str]
    ranges: Ranges | None = None
    """What calibration observed; none where a plan was given."""
    verification: Verification
    result: Report

    def __init__(
        self, recipe: Recipe, *, plan: Path | None = None, console: Console | None = None, command: str = ""
    ) -> None:
        self.recipe, self.command = recipe, command
        self.stages = Stages(console)
        self.targets: dict[str, Target] = {name: target(name, recipe.min_os) for name in recipe.targets}
        for to in self.targets.values():
            to.check(recipe.precision_in(to))
        self.given_plan: Plan | None = None
        self.octaves: Octaves = {}
        if plan:
            self.given_plan, self.octaves = read_plan(plan)
        self.rungs: tuple[Rung, ...] = ()
        self.labels = read_labels(recipe)
        self.islands = {}
        self.warnings: list[str] = []
        self.unjudged: list[str] = []
        self.labelled: LabelledSet | None = None
        self.gallery: Gallery | None = None
        self.module: nn.Module | None = None
        self.example: Sequence[Tensor] = ()

    def run(self, out: Path | None = None, stop_after: str = "report") -> Path | None:
        """Run every stage up to `stop_after`. Returns the bundle's folder, None when the run ended before lower.

        Files appear in `out` only when the run is complete. Gates are judged in the report; raising is the caller's.
        """
        if stop_after not in STAGES:
            hint = nearest(stop_after, STAGES)
            raise UsageError(f"no stage is called {stop_after!r}", why=hint, try_=f"one of: {', '.join(STAGES)}")
        last = STAGES.index(stop_after)
        destination = out or Path("out") / f"{self.recipe.title}-{self.recipe.precision}"
        writes = last >= STAGES.index("lower")
        own = evaluating(self.module) if self.module is not None else nullcontext()
        with own, bundle.writing(destination) if writes else nullcontext(Path()) as self.folder:
            for stage in STAGES[: last + 1]:
                getattr(self, stage)()
            if writes:
                bundle.write_manifest(self.folder, self._manifest())
        return destination if writes else None

    @property
    def files(self) -> dict[str, Path]:
        """The shipped file of each target, inside the folder being written."""
        return {name: self.folder / f"{self.recipe.title}{to.suffix}" for name, to in self.targets.items()}

    def text(self) -> str:
        """The graph as it stands, for `--stop-after`."""
        return graph_text(getattr(self, "lowered", None) or self.graph)

    # --- stages -------------------------------------------------------------------------------------------------------
    def build(self) -> None:
        """The recipe's module with weights, and the samples."""
        with self.stages.stage("build"):
            self.inputs = load_inputs(self.recipe, self.module, self.example, self.stages.download)
        self.stages.say(f"          weights: {self.inputs.weights}")

    def capture(self) -> None:
        """module -> Graph."""
        names = self.recipe.outputs or tuple(getattr(self.inputs.module, "output_names", ()))
        with self.stages.stage("capture"):
            module = self.inputs.module
            inside = "detector" if isinstance(module, Decoded) else ""
            self.graph = capture(module, self.inputs.example, name=self.recipe.title, output_names=names, inside=inside)
            self.labelled = self._open_labelled()  # what is wrong with it is told before the long stages

    def simplify(self) -> None:
        """Graph -> smaller Graph; what a target cannot write, or a recipe misnames, ends the run before calibration."""
        with self.stages.stage("simplify"):
            simplify(self.graph)
            self.lowered = self.graph
            kept_float(self.graph, self.recipe.quantize.keep_float)
            for name, to in self.targets.items():
                _refuse_unsupported(to, name, self.graph)

    def quantize(self) -> None:
        """Graph + calibration samples -> int8 Graph."""
        if self.recipe.precision != "int8":
            return
        settings, samples = self.recipe.calibration, self.inputs.calibration
        if self.given_plan is None:
            self.stages.say(f"          calibration: {describe_samples(samples)}, {settings.method}")
        with self.stages.stage("quantize"):
            ranges = None
            if self.given_plan is None:
                watch = Watch()
                with self.stages.steps("calibration", len(samples)):
                    feeds = watch.over(samples.feeds())
                    ranges, extremes = observe(
                        self.graph, feeds, settings.method, settings.percentile, self.stages.advance
                    )
                declared = self.inputs.takes_pictures and isinstance(samples, Arrays)
                self.warnings = watch.warnings(samples.names, self.recipe.preprocess if declared else None)
                self.warnings += batchnorm_warnings(self.inputs.module, samples.feeds(), self.graph)
                self.warnings += few_pictures(self.graph, extremes)
            else:
                check_plan(self.given_plan, self.graph)
                equalize(self.graph, self.octaves)
            self.ranges = ranges
            asked = self.recipe.quantize
            self.lowered, self.plan, self.islands = self._quantized(self.graph, ranges, asked.keep_float)
            if ranges is not None and asked.max_drop is not None:  # a given plan is finished
                self._repair(ranges, self.plan, asked.max_drop)
            self.warnings += value_warnings(self.lowered, self.ranges or {})

    def lower(self) -> None:
        """Graph -> a file for each target, with the facts that an app needs beside them."""
        with self.stages.stage("lower"):
            for name, to in self.targets.items():
                to.write(self.lowered, self.files[name], self._facts(self.recipe.precision_in(to)))
            if self.inputs.takes_pictures:
                bundle.write_json(self.folder / "preprocess.json", self.recipe.preprocess.model_dump(mode="json"))
            if self.labels:
                (self.folder / "labels.txt").write_text("\n".join(self.labels) + "\n")
            if self.plan is not None:
                write_plan(self.plan, self.folder / "plan.json", self.recipe.title, self.octaves)

    def verify(self) -> None:
        """Files -> measurements. An int8 file is compared with its float32 twin, which is not part of the bundle."""
        held_out = self.inputs.held_out
        with self.stages.stage("verify"), tempfile.TemporaryDirectory() as scratch:
            written = [self._written(name, Path(scratch), twin=self._has_twin(name)) for name in self.targets]
            self.gallery = self._open_gallery()
            evaluation = self._evaluate(written)
            with self.stages.steps("pictures", len(held_out)):
                self.verification = verify(
                    self.inputs.module,
                    written,
                    held_out.feeds(),
                    self._gates,
                    note=self.inputs.held_out_note,
                    islands=self.islands,
                    warnings=[*self.unjudged, *self.warnings],
                    evaluation=evaluation,
                    further=FURTHER_SAMPLES,
                    progress=self.stages.advance,
                    watch=self._watch_held_out,
                )
            self.verification = self.verification.model_copy(update={"repair": self.rungs})
            if self.plan is not None and wanted(self.verification, DROWNED):
                self.verification = self.verification.model_copy(update={"diagnosis": self.diagnose()})
            sample = next(held_out.feeds())
            for files in written:
                place = self.folder / "golden" / files.target
                bundle.write_golden(place, files.artifacts[0], sample)

    @property
    def _gates(self) -> Gates:
        """The recipe's; what a repair was to keep is a gate."""
        most, gates = self.recipe.quantize.max_drop, self.recipe.gates
        return (
            gates if most is None or gates.metric_drop is not None else gates.model_copy(update={"metric_drop": most})
        )

    def report(self) -> None:
        """Measurements -> report.md, report.html, report.json."""
        with self.stages.stage("report"):
            self.result = describe(self)
            if self.gallery and self.gallery.shown:
                drawn = write_pictures(self.gallery, self.recipe.preprocess, self.labels, self.folder)
                note = pictures_note(self.gallery, self._credits(), random_weights=self.inputs.random_weights)
                self.result = self.result.model_copy(update={"pictures": drawn, "pictures_note": note})
            write_report(self.result, self.folder)

    def diagnose(self) -> Diagnosis:
        """Where int8 loses accuracy, after quantize; on the first held-out samples."""
        feeds = list(islice(self.inputs.held_out.feeds(), SAMPLES))
        with self.stages.steps("layers", steps(len(feeds), PROBES)):
            return diagnose(
                self.graph,
                self.lowered,
                feeds,
                lambda globs: self._quantized(self.graph, self.ranges, globs)[0],
                keep_float=self.recipe.quantize.keep_float,
                progress=self.stages.advance,
            )

    def _repair(self, ranges: Ranges, plan: Plan, most: float) -> None:
        """Climb the repair ladder until the task metric drops by no more than `most`."""
        settings, samples, quantization = self.recipe.calibration, self.inputs.calibration, self.recipe.quantize
        assert self.labelled is not None
        workshop = Workshop(
            lambda graph: calibrate(graph, samples.feeds(), settings.method, settings.percentile),
            self._quantized,
            list(islice(samples.feeds(), LOOKED_AT)),
            list(islice(self.inputs.held_out.feeds(), SAMPLES)),
        )
        name = next((name for name in self.targets if is_quick(name)), "tflite")
        to = self.targets.get(name) or target(name)
        judge = judge_of(self.labelled, self.inputs.module, name, to, self._facts("int8"))
        start = Attempt(self.graph, ranges, self.lowered, plan, self.islands, quantization.keep_float)
        best, self.rungs = climb(
            start, workshop, judge, most, lambda rung: self.stages.say(f"          {in_words(rung)}")
        )
        self.graph, self.ranges, self.lowered = best.graph, best.ranges, best.lowered
        self.plan, self.islands, self.octaves = best.plan, best.islands, best.octaves
        settled = quantization.model_copy(update={"keep_float": best.keep_float})
        self.recipe = self.recipe.model_copy(update={"quantize": settled})

    def _quantized(
        self, graph: Graph, ranges: Ranges | None, keep_float: Sequence[str]
    ) -> tuple[Graph, Plan, dict[str, str]]:
        """The int8 twin of a float graph, its plan and its float islands."""
        graph, recipe = graph.clone(), self.recipe
        reduced = recipe.onnx_reduce_range
        planned = quantize(graph, ranges, self.given_plan, recipe.io, reduce_range=reduced, keep_float=keep_float)
        return graph, *planned

    def _evaluate(self, written: Sequence[TargetFiles]) -> Evaluation | None:
        """PyTorch and every file on the labelled set."""
        if self.labelled is None:
            return None
        calibrated = self.inputs.calibration.digests if self.plan and self.given_plan is None else ()
        if self.recipe.evaluation.brief:
            written = [files for files in written if is_quick(files.target)][:1]
        runs = list(runners(self.inputs.module, written))
        with self.stages.steps("evaluation", len(self.labelled.names)):
            return evaluate(
                self.labelled,
                runs,
                calibrated_on=calibrated,
                progress=self.stages.advance,
                watch=self._watch_evaluated,
            )

    def _open_gallery(self) -> Gallery | None:
        """For the labelled pictures, or those held out of calibration; None where outputs are not understood."""
        model, task = self._judged(), ""
        if self.labelled is not None:
            names, task, source = self.labelled.names, self.labelled.task, f"From {self.labelled.source}"
        elif self.inputs.takes_pictures and isinstance(self.inputs.held_out, Pictures):
            names, source = self.inputs.held_out.names, self.inputs.held_out_note.capitalize()
            own = self.module is not None or ":" in self.recipe.model
            task = "" if own else model_info(self.recipe.model).task
        else:
            return None
        read = marks_reader(task, model)
        return Gallery(read, names, source) if read else None

    def _credits(self) -> dict[str, list[str]]:
        """Licences of the pictures that the report shows, where they are the project's own."""
        shown = {picture.name for picture in self.gallery.shown} if self.gallery else set()
        if self.labelled is not None:
            return {}
        held_out = self.inputs.held_out
        return licences(held_out.select(i for i, name in enumerate(held_out.names) if name in shown))

    def _watch_evaluated(self, item: Labelled, runner: Runner, outputs: Sequence[Tensor]) -> None:
        if self.gallery and runner.target in ("", self.recipe.targets[0]):
            self.gallery.add(item.image, item.sample, f"{runner.target} {runner.file}".strip(), outputs)

    def _watch_held_out(self, number: int, sample: Sequence[Tensor], outputs: Mapping[str, Sequence[Tensor]]) -> None:
        if self.gallery and self.labelled is None:
            for by, found in outputs.items():
                self.gallery.add(number, sample, by, found)

    def _open_labelled(self) -> LabelledSet | None:
        asked = self.recipe.evaluation
        if not asked.source:
            return None
        if asked.brief and not any(map(is_quick, self.targets)):
            self.unjudged.append("the task was not measured: these files run here on a slow stand-in (try --eval)")
            return None
        try:
            return open_labelled(source_path(asked.source), self._judged(), asked.limit)
        except RuntimeUnavailable as error:
            if not asked.brief:
                raise
            self.unjudged.append(f"the task was not measured: {error.what} (try {', '.join(error.try_)})")
            return None

    def _judged(self) -> Model:
        inputs, outputs = (tuple(v.shape for v in values) for values in (self.graph.inputs, self.graph.outputs))
        return Model(self.recipe.preprocess, inputs, outputs, self.labels, self.inputs.module)

    def _written(self, name: str, scratch: Path, *, twin: bool) -> TargetFiles:
        """The shipped file of a target, and in `scratch` what it is compared with: with `twin` the float32 twin of an
        int8 one, and the body of an int8 or float16 one with a float tail.
        """
        to, shipped = self.targets[name], self.files[name]
        precision = self.recipe.precision_in(to)
        artifacts, body = [Artifact(shipped, self.lowered, precision)], None
        if precision == "int8" and twin:
            path = scratch / shipped.name
            to.write(self.graph, path, self._facts("float32"))
            artifacts.append(Artifact(path, self.graph, "float32", shipped=False))
        if precision != "float32" and (heads := self._body):
            path = scratch / f"body{to.suffix}"
            to.write(heads, path, Facts(heads.name, precision))
            body = Artifact(path, heads, precision, shipped=False)
        return TargetFiles(name, tuple(artifacts), body)

    def _has_twin(self, name: str) -> bool:
        """Of the first target, and of all where int8 and float are to be timed or evaluated side by side."""
        evaluated = self.labelled is not None and not self.recipe.evaluation.brief
        compared = self.recipe.gates.latency_ratio is not None or evaluated
        return compared or name == self.recipe.targets[0]

    @cached_property
    def _body(self) -> Graph | None:
        """The graph up to the heads, where a float tail follows."""
        if not self.lowered.tail():
            return None
        module = self.inputs.module
        names = getattr(module.detector, "output_names", ()) if isinstance(module, Decoded) else ()
        return body(self.lowered, names)

    # --- facts --------------------------------------------------------------------------------------------------------
    def _facts(self, precision: str) -> Facts:
        preprocess, module = self.recipe.preprocess, self.inputs.module
        described = module.described.values() if isinstance(module, Decoded) else ()
        outputs = dict(zip(self.graph.output_names, described, strict=False))
        return Facts(
            name=self.recipe.title,
            precision=precision,
            description=f"{self.recipe.title} {precision}, weights {self.inputs.weights}",
            licence=self.recipe.licence,
            mean=preprocess.mean if self.inputs.takes_pictures else (),
            std=preprocess.std if self.inputs.takes_pictures else (),
            resize=preprocess.resize if self.inputs.takes_pictures else "",
            labels=self.labels,
            outputs=outputs,
            boxes=next(iter(outputs), ""),
        )

    def _portable_recipe(self) -> dict[str, Any]:
        """The recipe as JSON, without paths of this machine to what comes with the project or lies in the bundle."""
        told = self.recipe.model_dump(mode="json") | {"labels": "labels.txt" if self.labels else None}
        return told | {section: _portable(told[section]) for section in ("calibration", "evaluation")}

    def _manifest(self) -> dict[str, object]:
        samples = self.inputs.calibration
        calibrated = {"names": list(samples.names), "sha256": samples.sha256, "licences": licences(samples)}
        return {
            "format": 1,
            "model": self.recipe.model,
            "targets": {name: file.name for name, file in self.files.items()},
            "recipe": self._portable_recipe(),
            "weights": self.inputs.weights,
            "weights_sha256": self.inputs.weights_sha256 or None,
            "state_sha256": state_sha256(self.inputs.module),
            "licence": self.recipe.licence,
            "versions": versions(),
            "pictures": self._credits() or None,
            "calibration": calibrated if self.plan is not None and self.given_plan is None else None,
        }


def _portable(section: dict[str, Any]) -> dict[str, Any]:
    """A section with a source, which is named without this machine's path where it comes with the project."""
    return section | {"source": section["source"] and source_name(Path(section["source"]))}


def _refuse_unsupported(chosen: Target, name: str, graph: Graph) -> None:
    refused = chosen.unsupported(graph)
    if refused:
        reasons = dict.fromkeys(reason for _, reason in refused)
        others = [other for other in NAMES if other != name and _supports(other, graph)]
        raise UnsupportedError(
            f"{len(refused)} of {len(graph.nodes)} nodes cannot be lowered to {name}",
            where=[f"{node.op.name:<14} {node.source}" for node, _ in refused],
            why="; ".join(reasons),
            try_=[
                f"--target {' or '.join(others)}, which can" if others else "",
                "rewrite those lines with supported ops, or add the op: docs/adding-an-op.md",
            ],
        )


def _supports(name: str, graph: Graph) -> bool:
    try:
        return not target(name).unsupported(graph)
    except ExportError:  # its package is absent, or the graph's names do not fit it
        return False
