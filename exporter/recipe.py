"""The typed recipe: everything that decides what is exported. Data only; nothing in it is evaluated as code, except a
`module:function` that the user names on purpose.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from exporter.build import list_models, model_info
from exporter.errors import UsageError, nearest
from exporter.quantize.preprocess import Preprocess

Positive = Annotated[int, Field(gt=0)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Calibration(_Section):
    """Where ranges come from. `source` None is the project's own sample in calib_data/."""

    source: str | None = None
    limit: Positive = 32
    method: Literal["minmax", "percentile", "mse", "entropy"] = "mse"
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99


class Gates(_Section):
    """What must hold for exit code 0; None switches a gate off. SNR in dB, size in MB (10^6 bytes)."""

    float_snr: float | None = 90.0
    """Least SNR of the float file against PyTorch, over its outputs."""
    integer_equal: float | None = 0.999
    """Least share of int8 output codes equal to the integer interpreter's."""
    integer_lsb: int | None = 1
    """Largest difference of an int8 output code from the integer interpreter's."""
    int8_snr: float | None = None
    """Least SNR of the int8 file against PyTorch, over its outputs, on pictures not calibrated on."""
    integer_share: float | None = 1.0
    """Least share of ops between input and output that work on integers."""
    max_size: float | None = None
    """Largest file."""
    latency_ratio: float | None = None
    """Most int8 time per float time on the same device."""


class Recipe(_Section):
    """One model and one intent. See recipes/README.md for every key."""

    model: str
    name: str = ""
    """Names the bundle and its files; the model's name where empty."""
    num_classes: Positive | None = None
    weights: str = "random"
    seed: int = 0
    targets: tuple[str, ...] = ("tflite",)
    precision: Literal["float32", "float16", "int8"] = "float32"
    io: Literal["float", "int8", "uint8"] = "float"
    preprocess: Preprocess
    calibration: Calibration = Calibration()
    labels: str | None = None
    """Text file with one label a line, beside the recipe or in recipes/."""
    outputs: tuple[str, ...] = ()
    """Output names; the model's own where empty."""
    gates: Gates = Gates()
    licence: str = ""

    @property
    def title(self) -> str:
        """The name of the bundle's files."""
        return self.name or self.model.replace(":", ".").split("/")[-1]


def load_recipe(name: str, **changes: Any) -> Recipe:
    """The recipe of that name, file or model, with `changes` put over it.

    `name` is a .yaml file, a recipe of recipes/, a registered model (whose facts give the preprocessing) or the user's
    `module:function`. `changes` are recipe keys; a dict changes keys inside a section; None leaves a key as it is.
    Raises UsageError with the line and the nearest key for anything that does not fit.
    """
    path = _find(name)
    content, lines = _parse(path) if path else (_facts(name), {})
    for key, value in changes.items():
        if isinstance(value, dict):
            kept = {k: v for k, v in value.items() if v is not None}
            content[key] = {**_as_dict(content.get(key)), **kept} if kept else content.get(key, {})
            if key not in Recipe.model_fields or not content[key]:
                content.pop(key)
        elif value is not None:
            content[key] = value
    if path and content.get("labels"):
        content["labels"] = str(_labels_file(path, str(content["labels"])))
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise _invalid(error, str(path or name), lines) from None


def recipes_dir() -> Path:
    """The recipes that come with the project: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).resolve().parent
    return next((d for d in (package / "recipes", package.parent / "recipes") if d.is_dir()), package / "recipes")


def recipe_names() -> list[str]:
    """Names of the recipes that come with the project."""
    return sorted(path.stem for path in recipes_dir().glob("*.yaml"))


def read_labels(recipe: Recipe) -> tuple[str, ...]:
    """The labels, one a line. Raises UsageError when the file cannot be read."""
    if recipe.labels is None:
        return ()
    try:
        return tuple(Path(recipe.labels).read_text().splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the labels {recipe.labels}", why=str(error)) from error


def _find(name: str) -> Path | None:
    """The file behind a recipe's name; None for a registered model or a `module:function`."""
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise UsageError(f"there is no recipe file {name}", try_="edge-export list shows what is built in")
        return Path(name)
    built_in = recipes_dir() / f"{name}.yaml"
    if built_in.is_file():
        return built_in
    models = [info.name for info in list_models()]
    if name in models or ":" in name:
        return None
    raise UsageError(
        f"unknown model {name!r}",
        why=nearest(name, [*models, *recipe_names()]),
        try_=["edge-export list shows every model", "a recipe file (.yaml), or your own module:function"],
    )


def _facts(name: str) -> dict[str, Any]:
    """A recipe from the registry's facts, or a bare one for the user's own function."""
    if ":" in name:
        return {"model": name, "preprocess": {"size": (224, 224), "resize": "crop"}}
    info = model_info(name)
    resize = "letterbox" if info.task == "detection" else "crop"
    preprocess = {"size": info.image_size, "resize": resize, "mean": info.mean, "std": info.std}
    return {"model": name, "preprocess": preprocess, "licence": info.licence}


def _parse(path: Path) -> tuple[dict[str, Any], dict[tuple[str, ...], int]]:
    """The YAML mapping and the line of every key in it."""
    try:
        text = path.read_text()
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the recipe {path}", why=str(error)) from error
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not YAML", why=" ".join(str(error).split())) from error
    if not isinstance(content, dict):
        raise UsageError(f"{path} is not a recipe", why="it holds no mapping of keys", try_="see recipes/README.md")
    lines: dict[tuple[str, ...], int] = {}
    _key_lines(node, (), lines)
    return content, lines


def _key_lines(node: Any, path: tuple[str, ...], lines: dict[tuple[str, ...], int]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, str(key.value))
            lines[here] = key.start_mark.line + 1
            _key_lines(value, here, lines)


def _invalid(error: ValidationError, source: str, lines: dict[tuple[str, ...], int]) -> UsageError:
    where = []
    for fault in error.errors():
        path = tuple(str(part) for part in fault["loc"])
        line = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), None)
        place = f"{source}:{line}" if line else source
        hint = nearest(path[-1], _keys(path[:-1])) if fault["type"] == "extra_forbidden" else ""
        what = "unknown key" if fault["type"] == "extra_forbidden" else fault["msg"]
        where.append("  ".join(part for part in (f"{place}  {'.'.join(path)}", what, hint) if part))
    return UsageError(f"the recipe does not fit in {len(where)} places", where=where, try_="see recipes/README.md")


def _keys(path: tuple[str, ...]) -> list[str]:
    """The keys that a section of the recipe knows."""
    section: Any = Recipe
    for part in path:
        section = {"preprocess": Preprocess, "calibration": Calibration, "gates": Gates}.get(part, section)
    return list(section.model_fields)


def _labels_file(recipe: Path, labels: str) -> Path:
    beside = recipe.parent / labels
    return beside if beside.is_file() else Path(labels)


def _as_dict(section: Any) -> dict[str, Any]:
    return dict(section) if isinstance(section, dict) else {}
