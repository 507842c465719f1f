"""`edge-export diagnose`: a model is quantised as for an export, and its layers are told apart. No file is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from torch import Tensor, nn

from exporter.build import list_models
from exporter.bundle import MANIFEST, read_manifest
from exporter.errors import DataError, UsageError
from exporter.inputs import evaluating, state_sha256
from exporter.pipeline import Pipeline
from exporter.recipe import Recipe, make_recipe
from exporter.report.json import from_json
from exporter.verify.results import Diagnosis


@dataclass(frozen=True)
class Exported:
    """What a bundle says of its own making."""

    recipe: Recipe
    plan: Path
    state_sha256: str
    command: str


def exported(folder: Path) -> Exported | None:
    """The int8 bundle in `folder`; None where there is no bundle. Raises UsageError for one that is not int8."""
    if not (folder / MANIFEST).is_file():
        return None
    manifest = read_manifest(folder)
    stated = manifest.get("recipe")
    if not isinstance(stated, dict) or stated.get("precision") != "int8":
        raise UsageError(f"{folder} is not an int8 bundle", try_="export with --int8, or diagnose MODEL")
    model = str(stated.get("model"))
    if ":" not in model and model not in {info.name for info in list_models()}:
        raise UsageError(
            f"{folder} was exported from Python: {model} cannot be built again by its name",
            try_="exporter.diagnose(module, example_input), with the options of the export",
        )
    if stated.get("labels"):
        stated = {**stated, "labels": str(folder / str(stated["labels"]))}
    report = folder / "report.json"
    command = from_json(report.read_text(encoding="utf-8")).command if report.is_file() else ""
    recipe = make_recipe(stated, str(folder / MANIFEST))
    return Exported(recipe, folder / "plan.json", str(manifest.get("state_sha256", "")), command)


def diagnosed(
    recipe: Recipe,
    *,
    plan: Path | None = None,
    module: nn.Module | None = None,
    example: Sequence[Tensor] = (),
    console: Console | None = None,
    state: str = "",
) -> Diagnosis:
    """Build, capture, simplify, quantize, localise. With `state` the weights must be those of that digest.

    `module` stands for the recipe's model, with `example` inputs. Raises the errors of `exporter.errors`.
    """
    if recipe.precision != "int8":
        raise UsageError(f"there is nothing to diagnose in {recipe.precision}", try_="precision: int8")
    pipeline = Pipeline(recipe, plan=plan, console=console)
    pipeline.module, pipeline.example = module, example
    pipeline.run(stop_after="build")
    if state and state_sha256(pipeline.inputs.module) != state:
        raise DataError(
            f"{recipe.title} has other weights now than when it was exported",
            try_="diagnose MODEL with the options of the export",
        )
    with evaluating(pipeline.inputs.module):
        pipeline.capture()
        pipeline.simplify()
        pipeline.quantize()
        with pipeline.stages.stage("diagnose"):
            return pipeline.diagnose()
