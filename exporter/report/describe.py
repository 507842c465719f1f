"""From a finished run to the data that every rendering shows."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from exporter.inputs import source_name
from exporter.ir.macs import graph_macs
from exporter.verify.processor import processor
from exporter.verify.results import CalibrationFacts, Report

if TYPE_CHECKING:
    from exporter.pipeline import Pipeline

PACKAGES = (
    "edge-export",
    "torch",
    "ai-edge-litert",
    "onnx",
    "onnxruntime",
    "coremltools",
    "pycocotools",
    "numpy",
    "flatbuffers",
    "pillow",
)


def describe(run: Pipeline) -> Report:
    """The report of `run`, after its verify stage."""
    recipe, inputs = run.recipe, run.inputs
    return Report(
        model=recipe.model,
        title=recipe.title,
        precision=recipe.precision,
        io=_io(run),
        targets=recipe.targets,
        weights=inputs.weights,
        random_weights=inputs.random_weights,
        parameters=sum(p.numel() for p in inputs.module.parameters()),
        macs=graph_macs(run.graph),
        input_shapes={v.name: v.shape for v in run.graph.inputs},
        output_shapes={n: v.shape for n, v in zip(run.graph.output_names, run.graph.outputs, strict=True)},
        calibration=_calibration(run),
        stages=tuple(run.stages.times),
        verification=run.verification,
        versions=versions(),
        processor=processor(),
        command=run.command,
    )


def _io(run: Pipeline) -> str:
    """What crosses the files' borders. Core ML has no integers there, and no float tail has."""
    io = run.recipe.io
    if io == "float":
        return io
    told = f"{io} in, float out" if run.graph.tail() else io
    return f"{told}; float in Core ML" if "coreml" in run.recipe.targets else told


def versions() -> dict[str, str]:
    """Installed versions of what a file depends on."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def _calibration(run: Pipeline) -> CalibrationFacts | None:
    if run.recipe.precision != "int8" or run.given_plan is not None:
        return None
    samples = run.inputs.calibration
    return CalibrationFacts(
        source=source_name(samples),
        count=len(samples),
        available=samples.available,
        sha256=samples.sha256,
        method=run.recipe.calibration.method,
        names=samples.names,
    )
