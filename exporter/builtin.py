"""What comes with the project beside its code: recipes, and weights trained on procedural scenes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from exporter.build import model_info
from exporter.errors import UsageError
from exporter.quantize.data import own_samples_dir

DEMO = "demo"
"""The name of these weights for `weights`."""


def recipes_dir() -> Path:
    """The recipes that come with the project: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).resolve().parent
    return next((d for d in (package / "recipes", package.parent / "recipes") if d.is_dir()), package / "recipes")


def recipe_names() -> list[str]:
    """Names of the recipes that come with the project."""
    return sorted(path.stem for path in recipes_dir().glob("*.yaml"))


def demo_models() -> list[str]:
    """Models that demo weights come with the project for."""
    return sorted(path.stem for path in (recipes_dir() / DEMO).glob("*.safetensors"))


def demo_weights(model: str) -> Path:
    """The file of a model's demo weights. Raises UsageError where there is none."""
    if model not in demo_models():
        published = [] if ":" in model else list(model_info(model).checkpoints)
        raise UsageError(
            f"{model} has no demo weights",
            why=f"they come with {', '.join(demo_models())}",
            try_=[*(f"--weights {name}, published" for name in published), "--weights FILE, or --weights random"],
        )
    return recipes_dir() / DEMO / f"{model}.safetensors"


def demo_card(model: str) -> str:
    """The file that says what a model's demo weights were trained on."""
    return f"recipes/{DEMO}/{model}.md"


def demo_keys(model: str) -> dict[str, Any]:
    """Keys of the recipe that a model's demo weights need: input size, classes, labels, samples, with whole paths."""
    path = demo_weights(model).with_suffix(".yaml")
    keys: dict[str, Any] = yaml.safe_load(path.read_text())
    keys["labels"] = str((path.parent / keys["labels"]).resolve())
    for section in ("calibration", "evaluation"):
        keys[section]["source"] = str(own_samples_dir() / keys[section]["source"])
    return keys


def refuse_classes(model: str, asked: object, keys: Mapping[str, Any]) -> None:
    """UsageError where another number of classes is asked for than the demo weights know."""
    has = keys["num_classes"]
    if asked != has:
        raise UsageError(
            f"the demo weights of {model} have {has} classes, not {asked}",
            why=f"they were trained on scenes with these, see {demo_card(model)}",
            try_=["without --num-classes", "--weights random, or --weights FILE with your own"],
        )
