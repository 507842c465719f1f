"""The typed recipe: everything that decides what is exported. Data only; nothing in it is evaluated as code, except a
`module:function` that the user names on purpose.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from exporter.build import ModelInfo, list_models, model_info
from exporter.builtin import DEMO, demo_keys, demo_models, recipe_names, recipes_dir, refuse_classes
from exporter.errors import UsageError, nearest
from exporter.lower import NAMES, Target
from exporter.quantize.data import array_shapes
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


class Quantization(_Section):
    """What int8 is to leave out, and how much it may lose."""

    keep_float: tuple[str, ...] = ()
    """Globs over module paths and value names: see `exporter.quantize.keep_float`."""
    max_drop: Annotated[float, Field(ge=0, lt=1)] | None = None
    """How far the task metric may fall below PyTorch's: 0.01 is one point. Beyond it the model is repaired, rung by
    rung of `exporter.repair`; None repairs nothing."""


class Evaluation(_Section):
    """A labelled set to judge the task on; see `exporter.verify.metrics.labelled`. `limit` None is all of it."""

    source: str | None = None
    limit: Positive | None = None
    brief: bool = False
    """Only the first target's files that run here on a runtime of their own; and nothing but a warning where there are
    none, or where the metric's package is not installed."""


Release = Annotated[str, Field(pattern=r"^\d+(\.\d+)*$")]


class MinimumRuntime(_Section):
    """A release of TFLite, of onnxruntime, of iOS; None asks nothing."""

    tflite: Release | None = None
    onnx: Release | None = None
    coreml: Release | None = None


class Gates(_Section):
    """What must hold for exit code 0; None switches a gate off. SNR in dB, size in MB (10^6 bytes)."""

    float_snr: float | None = 90.0
    """Least SNR of the float32 file against PyTorch, over its outputs."""
    float16_snr: float | None = 40.0
    """The same of a float16 file: weights of 11 bits (EfficientDets with random weights reach 57 to 69)."""
    integer_equal: float | None = 0.999
    """Least share of int8 output codes equal to the integer interpreter's."""
    integer_lsb: int | None = 1
    """Largest difference of an int8 output code from the integer interpreter's."""
    agreement: float | None = 1.0
    """Least share of an int8 file's scales, zero points, weights and biases, read back, that are the graph's own."""
    int8_snr: float | None = None
    """Least SNR of the int8 file against PyTorch, over its outputs, on pictures not calibrated on."""
    integer_share: float | None = 1.0
    """Least share of ops between input and output that work on integers, or were asked to stay float."""
    device_equal: float | None = 0.999
    """Least share of int8 output codes on a device equal to this machine's; for it and the next two: verify --on."""
    device_lsb: int | None = 1
    """Largest difference of an int8 output code on a device from this machine's."""
    device_snr: float | None = 90.0
    """Least SNR of a float output on a device against this machine's."""
    max_transposes: int | None = None
    """Most operators in the file that only reorder axes."""
    minimum_runtime: MinimumRuntime = MinimumRuntime()
    """The newest runtime that a file may need."""
    max_size: float | None = None
    """Largest file."""
    latency_ratio: float | None = None
    """Most int8 time per float time on the same device."""
    instructions: float | None = 0.001
    """Most rise of the instructions of one inference over the baseline's, as a share: verify --baseline."""
    same_detections: float | None = 0.99
    """Least share of detections that are PyTorch's in a float32 file, the interpreter's in an int8 or float16 one."""
    similar_detections: float | None = None
    """Least share of an int8 or float16 file's detections that have PyTorch's class and an IoU of 0.5 with it."""
    metric_drop: Annotated[float, Field(ge=0, lt=1)] | None = None
    """How far the shipped file's task metric may be below PyTorch's: 0.01 is one point."""


class Nms(_Section):
    """What a detector keeps with `postprocess: nms`: see `exporter.ir.detection.detect`."""

    score_threshold: Annotated[float, Field(ge=0, lt=1)] = 0.05
    iou_threshold: Annotated[float, Field(gt=0, le=1)] = 0.5
    max_detections: Positive = 100
    per_class: bool = False
    """Every class for itself; otherwise the best class of each box alone, which boxes of any class suppress."""


class Recipe(_Section):
    """One model and one intent. See recipes/README.md for every key."""

    model: str
    name: Annotated[str, Field(pattern=r"^[\w.+-]*$")] = ""
    """Names the bundle and its files; the model's name where empty."""
    num_classes: Positive | None = None
    weights: str = "random"
    inputs: dict[str, tuple[Positive, ...]] = {}
    """Shapes [1, ...] of your own model's inputs, by name; without them one picture of preprocess.size, or what the
    arrays hold that it is calibrated with."""
    targets: tuple[str, ...] = ("tflite",)
    precision: Literal["float", "float32", "float16", "int8", "weights-int8"] = "float"
    """`float` is what each format ships floats in: float32 in TFLite and ONNX, float16 in Core ML."""
    min_os: Literal[15, 16, 17, 18] | None = None
    """The oldest iOS that is to run a Core ML file; the oldest that can where empty."""
    io: Literal["float", "int8", "uint8"] = "float"
    onnx_reduce_range: bool = False
    """Weights of 7 bits, in every format of the run: onnxruntime on x86 without VNNI saturates with more."""
    preprocess: Preprocess
    postprocess: Literal["raw", "decoded", "nms"] = "raw"
    """What a detector gives: its heads, decoded boxes and scores, or finished detections."""
    nms: Nms | None = None
    """For `postprocess: nms`."""
    calibration: Calibration = Calibration()
    quantize: Quantization = Quantization()
    evaluation: Evaluation = Evaluation()
    labels: str | None = None
    """Text file with one label a line, beside the recipe or in recipes/."""
    outputs: tuple[str, ...] = ()
    """Output names; the model's own where empty."""
    gates: Gates = Gates()
    licence: str = ""

    @field_validator("targets", mode="before")
    @classmethod
    def _all_targets(cls, given: Any) -> Any:
        """`all` stands for every format; a format named twice counts once."""
        if isinstance(given, str):
            given = [given]
        if not isinstance(given, (list, tuple)):
            return given
        return tuple(dict.fromkeys(name for item in given for name in (NAMES if item == "all" else [item])))

    @model_validator(mode="before")
    @classmethod
    def _settings_of_nms(cls, given: Any) -> Any:
        asked = isinstance(given, dict) and given.get("postprocess") == "nms"
        return {"nms": {}, **given} if asked else given

    @model_validator(mode="after")
    def _unused(self) -> Self:
        """A setting that would be ignored is a mistake."""
        if self.io != "float" and self.precision != "int8":
            raise ValueError(f"io: {self.io} needs precision: int8 (--int8)")
        if self.onnx_reduce_range and (self.precision != "int8" or "onnx" not in self.targets):
            raise ValueError(
                "onnx_reduce_range is for int8 in onnxruntime alone (--int8 --target onnx): it costs accuracy"
            )
        if self.quantize.keep_float and self.precision != "int8":
            raise ValueError("quantize.keep_float needs precision: int8 (--int8): everything is float without it")
        if self.quantize.max_drop is not None and self.precision != "int8":
            raise ValueError("quantize.max_drop needs precision: int8 (--int8): floats lose nothing")
        if self.quantize.max_drop is not None and self.evaluation.source is None:
            raise ValueError("quantize.max_drop needs evaluation.source (--eval), a labelled set to judge it on")
        if self.io != "float" and self.targets == ("coreml",):
            raise ValueError(f"io: {self.io} is for TFLite and ONNX: Core ML is float outside (--io float)")
        if self.num_classes is not None and ":" in self.model:
            raise ValueError("num_classes is for models of edge-export list: your own function sets its classes")
        if self.inputs and ":" not in self.model:
            raise ValueError("inputs is for your own model: those of edge-export list take one picture")
        if self.nms is not None and self.postprocess != "nms":
            raise ValueError(f"nms needs postprocess: nms (--postprocess nms), it is {self.postprocess}")
        if self.min_os is not None and "coreml" not in self.targets:
            raise ValueError("min_os is for Core ML: add coreml to targets (--target coreml)")
        if self.evaluation.source is None and self.evaluation.limit is not None:
            raise ValueError("evaluation.limit needs evaluation.source (--eval)")
        if self.evaluation.source is None and self.gates.metric_drop is not None:
            raise ValueError("gates.metric_drop needs evaluation.source (--eval), a labelled set to judge it on")
        if not self.targets:
            raise ValueError(f"targets: name at least one of {', '.join(NAMES)}, or all")
        return self

    def precision_in(self, target: Target) -> str:
        """The precision of that target's file."""
        return target.floats if self.precision == "float" else self.precision

    @property
    def title(self) -> str:
        """The name of the bundle's files."""
        return self.name or self.model.replace(":", ".").split("/")[-1]


def load_recipe(name: str, **changes: Any) -> Recipe:
    """The recipe of that name, file or model, with `changes` put over it.

    `name` is a .yaml file, a recipe of recipes/, a registered model (whose facts give the preprocessing) or the user's
    `module:function`. `changes` are recipe keys; a dict changes keys inside a section.
    Raises UsageError with the line and the nearest key for anything that does not fit.
    """
    path = _find(name)
    content, lines = _parse(path) if path else ({"model": name}, {})
    _add_inputs(content, changes)
    content = _with_demo(content, changes, path)
    _add_facts(content, f"{path}:{lines.get(('model',), 1)}" if path else "")
    content = merge(content, changes)
    if path and content.get("labels"):
        content["labels"] = str(_labels_file(path, str(content["labels"])))
    return make_recipe(content, str(path or name), lines)


def _with_demo(content: dict[str, Any], changes: Mapping[str, Any], path: Path | None) -> dict[str, Any]:
    """With demo weights, what these need: over a recipe of recipes/, which is for the published ones, and under a
    user's own. A model without a recipe has them by default, as the recipes do.
    """
    model = content.get("model")
    if not isinstance(model, str):
        return content  # validation says so
    if path is None and model in demo_models():
        content = {"weights": DEMO, **content}
    if {**content, **changes}.get("weights") != DEMO:
        return content
    keys = demo_keys(model)
    own = path is not None and path.resolve().parent != recipes_dir()
    asked = merge(content if own else {}, changes)
    if isinstance(asked.get("evaluation"), dict) and "source" in asked["evaluation"]:
        del keys["evaluation"]
    if asked.get("num_classes") is not None:
        refuse_classes(model, asked["num_classes"], keys)
    return merge(keys, content) if own else merge(content, keys)


def merge(content: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`content` with `changes` over it; a dict goes over the keys of its section. None in a section is a value.

    A section that is no mapping stays, so that an option does not hide the fault in it.
    """
    merged = dict(content)
    for key, value in changes.items():
        section = merged.get(key, {})
        if not isinstance(value, dict):
            merged[key] = value
        elif isinstance(section, dict):
            merged[key] = {**section, **value}
    return merged


def given(**options: Any) -> dict[str, Any]:
    """The options that were given: None and empty sections left out."""
    return {key: value for key, value in options.items() if value is not None and value != {}}


def make_recipe(content: dict[str, Any], source: str, lines: Mapping[tuple[str, ...], int] | None = None) -> Recipe:
    """A recipe from its keys. Raises UsageError naming every fault, with its line in `source` where one is known."""
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise _invalid(error, source, lines or {}) from None


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
        try_=[
            "edge-export list shows every model",
            f"your own model: {Path(name).stem}:FUNCTION, which returns it" if name.endswith(".py") else "",
            "a recipe file (.yaml), or your own module:function",
        ],
    )


def _add_inputs(content: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Where no input size is given, the arrays that calibrate a user's own model have its inputs' shapes."""
    stated = merge(content, changes)
    model, preprocess, calibration = (stated.get(key) for key in ("model", "preprocess", "calibration"))
    if not isinstance(model, str) or ":" not in model or "inputs" in stated or "size" in (preprocess or ()):
        return
    source = calibration.get("source") if isinstance(calibration, dict) else None
    if isinstance(source, str):
        content["inputs"] = array_shapes(source)


def _add_facts(content: dict[str, Any], where: str) -> None:
    """Where the recipe says nothing: a registered model's preprocessing and licence, 224 x 224 for the user's own."""
    model = content.get("model")
    if not isinstance(model, str):
        return  # validation says so
    facts: dict[str, Any] = {"preprocess": {"size": (224, 224), "resize": "crop"}}
    if ":" not in model:
        info = _model_info(model, where)
        resize = "letterbox" if info.task == "detection" else "crop"
        preprocess = {"size": info.image_size, "resize": resize, "mean": info.mean, "std": info.std}
        facts = {"preprocess": preprocess, "licence": info.licence}
    given = content.get("preprocess", {})
    if isinstance(given, dict):
        content["preprocess"] = {**facts.pop("preprocess"), **given}
    for key, value in facts.items():
        content.setdefault(key, value)


def _model_info(model: str, where: str) -> ModelInfo:
    try:
        return model_info(model)
    except UsageError as error:
        raise UsageError(error.what, where=where, why=error.why, try_=error.try_) from None


def _parse(path: Path) -> tuple[dict[str, Any], dict[tuple[str, ...], int]]:
    """The YAML mapping and the line of every key in it."""
    try:
        text = path.read_text()
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the recipe {path}", why=str(error)) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else ""
        why = getattr(error, "problem", None) or " ".join(str(error).split())
        raise UsageError(f"{path} is not YAML", where=where, why=why) from error
    if not isinstance(content, dict):
        raise UsageError(
            f"{path} is not a recipe", why="it holds no mapping of keys", try_="recipes/README.md lists every key"
        )
    lines: dict[tuple[str, ...], int] = {}
    _key_lines(node, (), lines)
    return content, lines


def _key_lines(node: Any, path: tuple[str, ...], lines: dict[tuple[str, ...], int]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, str(key.value))
            lines[here] = key.start_mark.line + 1
            _key_lines(value, here, lines)


def _invalid(error: ValidationError, source: str, lines: Mapping[tuple[str, ...], int]) -> UsageError:
    found = []
    for fault in error.errors():
        path = tuple(str(part) for part in fault["loc"])
        line = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), 0)
        unknown = fault["type"] == "extra_forbidden"
        what = "unknown key" if unknown else fault["msg"].removeprefix("Value error, ")
        hint = nearest(path[-1], _keys(path[:-1])) if unknown else ""
        place = f"{source}:{line}" if line else source
        found.append((line, "  ".join(part for part in (place, ".".join(path), what, hint) if part)))
    where = [text for _, text in sorted(found)]
    places = "one place" if len(where) == 1 else f"{len(where)} places"
    return UsageError(f"the recipe does not fit in {places}", where=where, try_="recipes/README.md lists every key")


def _keys(path: tuple[str, ...]) -> list[str]:
    """The keys that a section of the recipe knows."""
    section: Any = Recipe
    for part in path:
        section = _SECTIONS.get(part, section)
    return list(section.model_fields)


_SECTIONS = {
    "preprocess": Preprocess,
    "nms": Nms,
    "calibration": Calibration,
    "evaluation": Evaluation,
    "minimum_runtime": MinimumRuntime,
    "gates": Gates,
}


def _labels_file(recipe: Path, labels: str) -> Path:
    beside = recipe.parent / labels
    return beside if beside.is_file() else Path(labels)
