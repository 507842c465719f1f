"""edge-export: PyTorch vision models to verified INT8 files for phones.

import exporter
result = exporter.export("efficientdet_d0", target="tflite", int8=True)
print(result.folder, result.report.verification.passed)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.errors import ExportError

if TYPE_CHECKING:
    from rich.console import Console
    from torch import Tensor, nn

    from exporter.recipe import Recipe
    from exporter.verify.results import Diagnosis, Report

__all__ = ["Export", "ExportError", "build_model", "diagnose", "export", "load_recipe", "load_weights"]


@dataclass(frozen=True)
class Export:
    """What `export` leaves: the bundle's folder and its report."""

    folder: Path
    report: Report


def export(
    model: str | Recipe | nn.Module,
    example_input: Tensor | Sequence[Tensor] = (),
    *,
    target: str | Sequence[str] | None = None,
    int8: bool = False,
    fp16: bool = False,
    weights: str | None = None,
    calib: str | Path | None = None,
    io: str | None = None,
    size: tuple[int, int] | None = None,
    plan: str | Path | None = None,
    out: str | Path | None = None,
    check: bool = True,
    console: Console | None = None,
    **changes: Any,
) -> Export:
    """Export a model by name, recipe, or as an `nn.Module` with an example input (float32 [1, C, H, W]).

    `target` is one format, several, or "all"; `changes` are further recipe keys. With `check`, a failed gate raises
    AccuracyError or BudgetError after the bundle was written. Raises the errors of `exporter.errors`.
    """
    from torch import nn

    from exporter.errors import UsageError
    from exporter.pipeline import Pipeline
    from exporter.recipe import given, merge
    from exporter.verify.gates import raise_on_failure

    examples = _examples(example_input)
    if int8 and fp16:
        raise UsageError("choose one of int8 and fp16")
    options = given(
        targets=target or None,
        precision="int8" if int8 else "float16" if fp16 else None,
        weights=weights,
        io=io,
        preprocess=given(size=size),
        calibration=given(source=str(calib) if calib else None),
    )
    recipe = _recipe(model, examples, merge(options, changes))
    pipeline = Pipeline(recipe, plan=Path(plan) if plan else None, console=console, command="exporter.export(…)")
    pipeline.module, pipeline.example = model if isinstance(model, nn.Module) else None, examples
    folder = pipeline.run(Path(out) if out else None)
    assert folder is not None
    if check:
        raise_on_failure(pipeline.verification.gates)
    return Export(folder, pipeline.result)


def diagnose(
    model: str | Recipe | nn.Module,
    example_input: Tensor | Sequence[Tensor] = (),
    *,
    weights: str | None = None,
    calib: str | Path | None = None,
    size: tuple[int, int] | None = None,
    plan: str | Path | None = None,
    console: Console | None = None,
    **changes: Any,
) -> Diagnosis:
    """Where a model loses accuracy in int8, layer by layer, and what keeping some in float would gain.

    Arguments as for `export`; nothing is written. Raises the errors of `exporter.errors`.
    """
    from torch import nn

    from exporter.diagnosis import diagnosed
    from exporter.recipe import Recipe, given, merge

    examples = _examples(example_input)
    options = given(
        precision=None if isinstance(model, Recipe) else "int8",
        weights=weights,
        preprocess=given(size=size),
        calibration=given(source=str(calib) if calib else None),
    )
    return diagnosed(
        _recipe(model, examples, merge(options, changes)),
        plan=Path(plan) if plan else None,
        module=model if isinstance(model, nn.Module) else None,
        example=examples,
        console=console,
    )


def _recipe(model: str | Recipe | nn.Module, examples: Sequence[Tensor], settings: dict[str, Any]) -> Recipe:
    from torch import nn

    from exporter.errors import UsageError
    from exporter.recipe import Recipe, load_recipe, make_recipe, merge

    if not isinstance(model, (str, Recipe, nn.Module)):
        raise UsageError(
            f"cannot export {getattr(model, '__name__', type(model).__name__)}, which is no nn.Module",
            try_="an nn.Module object with an example input, or the name of a model or recipe",
        )
    if isinstance(model, Recipe):
        if settings:
            raise UsageError(
                f"a Recipe says it all: {', '.join(settings)} would be ignored", try_="load_recipe(name, …)"
            )
        return model
    if isinstance(model, nn.Module):
        if not examples:
            raise UsageError("an nn.Module needs an example input", try_="export(module, torch.zeros(1, 3, 224, 224))")
        name = type(model).__name__.lower()
        known = {"model": name, "preprocess": {"size": tuple(examples[0].shape[-2:])}}
        return make_recipe(merge(known, settings), name)
    return load_recipe(model, **settings)


def _examples(given: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The example inputs, in the order of `forward`."""
    from torch import Tensor

    from exporter.errors import UsageError

    if isinstance(given, Tensor):
        return (given,)
    examples = tuple(given) if isinstance(given, (list, tuple)) else (given,)
    if wrong := [(i, type(x).__name__) for i, x in enumerate(examples) if not isinstance(x, Tensor)]:
        raise UsageError(
            "example inputs must be tensors",
            where=[f"input {index} is of type {name}" for index, name in wrong],
            why="forward() is called with them by position; arguments that are no tensors keep their defaults",
            try_="export(module, (torch.zeros(1, 3, 224, 224), …))",
        )
    return examples


def load_recipe(name: str, **changes: Any) -> Recipe:
    """The recipe of that name, file or model, with `changes` put over it; see `exporter.recipe.load_recipe`."""
    from exporter.recipe import load_recipe as load

    return load(name, **changes)


def build_model(
    name: str, image_size: int | tuple[int, int] | None = None, num_classes: int | None = None
) -> nn.Module:
    """A model of the zoo in eval mode, seeded random weights; see `exporter.build.build_model`."""
    from exporter.build import build_model as build

    return build(name, image_size, num_classes)


def load_weights(model: nn.Module, source: Any) -> None:
    """Load a checkpoint file or state dict in the official naming; see `exporter.build.load_weights`."""
    from exporter.build import load_weights as load

    load(model, source)
