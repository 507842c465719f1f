"""`edge-export list`: every model and recipe, from the registry's facts. No model is built."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console

from exporter.build import ModelInfo, list_models
from exporter.builtin import DEMO, demo_models
from exporter.recipe import Recipe, load_recipe, recipe_names
from exporter.report import figures
from exporter.report.parts import Column, Fact, Table
from exporter.report.sheet import print_sheet


def catalogue() -> list[dict[str, Any]]:
    """One entry a model, in the registry's order, then one for every recipe that does not bear its model's name.

    `parameters` counts trainable values, `gmacs` multiply-accumulates of the convolutions in 10^9 at `input_size`
    (height, width); `weights` are the names for --weights, `demo` and the published ones; `recipe` tells whether
    recipes/ holds one.
    """
    recipes = {name: load_recipe(name, weights="random") for name in recipe_names()}
    infos = list_models()
    return [*(_entry(info, recipes.get(info.name)) for info in infos), *_others(recipes, infos)]


def print_catalogue(console: Console) -> None:
    """One table a task and data set, narrow enough for 80 columns; the JSON says more."""
    entries = catalogue()
    models = sum(entry["name"] == entry["model"] for entry in entries)
    recipes = sum(entry["recipe"] for entry in entries)
    title = f"{figures.plural(models, 'model')}, {figures.plural(recipes, 'recipe')} (*)"
    tables = [_table(*heads, listed) for heads, listed in _by_data(entries).items()]
    weights = Fact("weights", "names for --weights (demo: ours, the default); every model also takes a FILE")
    print_sheet(console, title, *tables, (weights, *_sources(entries)))


def _by_data(entries: list[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Task and data set -> entries. A model without a published figure is listed with the ones before it."""
    current: dict[str, str] = {}
    for entry in entries:  # those before a task's first figure: with the ones behind them
        current[entry["task"]] = current.get(entry["task"]) or _measure(entry["accuracy"])[1]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for entry in entries:
        task = entry["task"]
        current[task] = _measure(entry["accuracy"])[1] or current[task]
        groups.setdefault((task, current[task]), []).append(entry)
    tasks = list(current)
    return dict(sorted(groups.items(), key=lambda group: tasks.index(group[0][0])))


def _sources(entries: list[dict[str, Any]]) -> tuple[Fact, ...]:
    """Where architecture and weights come from: one line for the models of one source, named after the first."""
    named: dict[str, list[str]] = {}
    for entry in entries:
        named.setdefault(entry["source"], []).append(entry["name"])
    lines = [f"{names[0]}{' …' * (len(names) > 1)}: {source}" for source, names in named.items() if source]
    return tuple(Fact("source", line) for line in lines)


def _table(task: str, data: str, entries: list[dict[str, Any]]) -> Table:
    columns = (
        Column(task, numeric=False),
        Column("input"),
        Column("params"),
        Column("MACs"),
        Column(data or "accuracy", numeric=False),
        Column("weights", numeric=False),
    )
    rows = tuple(
        (
            entry["name"] + "*" * entry["recipe"],
            _size(*entry["input_size"]),
            figures.large(entry["parameters"]),
            figures.large(round(entry["gmacs"] * 1e9)),
            _measure(entry["accuracy"])[0] or figures.ABSENT,
            ", ".join(entry["weights"]) or "none",
        )
        for entry in entries
    )
    return Table(task, columns, rows)


def _measure(accuracy: str) -> tuple[str, str]:
    """`AP 34.2 COCO val2017 (google/automl: 34.3)` -> `AP 34.2`, `COCO val2017`."""
    words = accuracy.partition("(")[0].split()
    return " ".join(words[:2]), " ".join(words[2:])


def _size(height: int, width: int) -> str:
    return str(height) if height == width else f"{height}x{width}"


def _entry(info: ModelInfo, recipe: Recipe | None) -> dict[str, Any]:
    return {
        "name": info.name,
        "model": info.name,
        "task": info.task,
        "input_size": list(recipe.preprocess.size if recipe else info.image_size),
        "num_classes": info.num_classes,
        "parameters": info.params,
        "gmacs": info.gmacs,
        "accuracy": info.metric,
        "weights": [*([DEMO] if info.name in demo_models() else []), *info.checkpoints],
        "recipe": recipe is not None,
        "source": info.source,
        "licence": info.licence,
    }


def _others(recipes: dict[str, Recipe], infos: list[ModelInfo]) -> Iterator[dict[str, Any]]:
    """Recipes with a name of their own: the facts of their model, at their own size. GMACs are of the model's size."""
    known = {info.name: info for info in infos}
    for name, recipe in recipes.items():
        if name not in known and recipe.model in known:
            yield {**_entry(known[recipe.model], recipe), "name": name}
