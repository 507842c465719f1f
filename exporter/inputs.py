"""What a recipe names, made real: the module with its weights, and the pictures to calibrate and verify with."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from exporter.build import build_model, digest_of, load_weights, model_info, refit_batchnorm, resolve
from exporter.build.download import Progress
from exporter.build.postprocess import require_detector, with_postprocess
from exporter.builtin import DEMO, demo_card, demo_weights
from exporter.errors import DataError, ExportError, UsageError, blame, nearest
from exporter.quantize.data import (
    MANIFEST,
    Pictures,
    Samples,
    default_samples_dir,
    load_samples,
    own_samples_dir,
    source_path,
)
from exporter.quantize.data import source_name as named
from exporter.recipe import Recipe
from exporter.threads import one_thread

MOST_HELD_OUT = 4
REFIT_BATCH, REFIT_PICTURES = 2, 8


@dataclass(frozen=True)
class Inputs:
    """The model in eval mode with the recipe's post-processing, one example of its inputs, and two sets of samples that
    do not overlap.

    `weights` is a sentence for the first line of every report; with `random_weights` no figure says anything about a
    task. `weights_sha256` is that of their file, empty where there is none. `held_out_note` tells which samples verify,
    and whether calibration saw them.
    """

    module: nn.Module
    example: tuple[Tensor, ...]
    weights: str
    weights_sha256: str
    random_weights: bool
    calibration: Samples
    held_out: Samples
    held_out_note: str
    takes_pictures: bool
    """Whether the recipe's preprocessing is the model's: not when a user's own model was given ready arrays."""


def load_inputs(
    recipe: Recipe,
    module: nn.Module | None = None,
    example: Sequence[Tensor] = (),
    progress: Progress | None = None,
) -> Inputs:
    """Build or take the module, load its weights, open the samples. `progress` follows a download, in bytes."""
    own = module is not None
    module = module if module is not None else build_module(recipe)
    require_detector(module, recipe.postprocess)
    example = tuple(example) or _example(recipe, module)
    samples = _samples(recipe, module, example)
    calibration, held_out, note = _split(samples, recipe.calibration.limit)
    is_random = recipe.weights == "random"
    if own or (":" in recipe.model and is_random):
        is_random = False
        weights, sha256 = "as given by the user's module", ""
    else:
        weights, sha256 = _load(module, recipe, calibration, progress)
    pictures = isinstance(samples, Pictures) or not (own or ":" in recipe.model)
    module = finished(module, recipe)
    return Inputs(module, example, weights, sha256, is_random, calibration, held_out, note, pictures)


def _example(recipe: Recipe, module: nn.Module) -> tuple[Tensor, ...]:
    """Zeros of the recipe's input shapes in the order of `forward`, or one picture. Arrays that are no input of the
    model may lie beside those that are.
    """
    shapes = recipe.inputs or {"": (1, 3, *recipe.preprocess.size)}
    if len(shapes) == 1:
        return tuple(torch.zeros(shape) for shape in shapes.values())
    names = _parameters(module)
    if not any(name in shapes for name in names):
        raise UsageError(
            f"none of {', '.join(shapes)} is an input of {recipe.model}",
            why=f"its forward() takes {', '.join(names)}",
            try_="name inputs, and the arrays of an .npz, after forward()'s parameters",
        )
    return tuple(torch.zeros(shapes[name]) for name in names if name in shapes)


def _parameters(module: nn.Module) -> list[str]:
    """Names of what `forward` takes, in order."""
    return [p.name for p in inspect.signature(module.forward).parameters.values() if p.kind is not p.VAR_KEYWORD]


def _samples(recipe: Recipe, module: nn.Module, example: tuple[Tensor, ...]) -> Samples:
    """All samples of the recipe's source, which must have the shapes of `example`."""
    names = _parameters(module)
    if len(names) < len(example):  # *args
        names = [f"input_{i}" for i in range(len(example))]
    shapes = {name: tuple(x.shape) for name, x in zip(names, example, strict=False)}
    source = source_path(recipe.calibration.source) if recipe.calibration.source else default_samples_dir()
    samples = load_samples(source, recipe.preprocess, None, shapes)
    given = [tuple(x.shape) for x in next(samples.feeds())]
    if given != list(shapes.values()):
        raise UsageError(
            "the calibration samples do not fit the model's inputs",
            where=[
                f"{name}  takes {list(shape)}, a sample is {list(has)}"
                for (name, shape), has in zip(shapes.items(), given, strict=False)
            ],
            why="pictures are [1, 3, height, width]; samples come one by one",
            try_="--calib with an .npz of arrays, and a model with batch 1",
        )
    return samples


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode inside the block; every submodule's own mode comes back behind it."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


def describe_samples(samples: Samples) -> str:
    """Source, count and hash in one line."""
    return f"{len(samples)} of {samples.available} from {source_name(samples)} (sha256 {samples.sha256[:12]})"


def source_name(samples: Samples) -> str:
    """Where samples came from, without a path where they are our own."""
    return "the project's own pictures" if samples.source == default_samples_dir() else named(samples.source)


def licences(samples: Samples) -> dict[str, list[str]]:
    """Licence -> names of the pictures under it, for the project's own; nothing is known about the user's."""
    if not samples.source.is_relative_to(own_samples_dir()):
        return {}
    folder = next(folder for folder in (samples.source, *samples.source.parents) if (folder / MANIFEST).is_file())
    inside = samples.source.relative_to(folder)
    names = {(inside / name).as_posix() for name in samples.names}
    found: dict[str, list[str]] = {}
    for entry in json.loads((folder / MANIFEST).read_text())["files"]:
        if entry["file"] in names:
            found.setdefault(entry["licence"], []).append(f"{entry['file']} ({entry['author']})")
    return found


def state_sha256(module: nn.Module) -> str:
    """Hex digest over parameters and buffers with their names: exports with the same one hold the same weights."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def finished(module: nn.Module, recipe: Recipe) -> nn.Module:
    """The module with the recipe's post-processing."""
    return with_postprocess(module, recipe.postprocess, **(recipe.nms.model_dump() if recipe.nms else {}))


def build_module(recipe: Recipe) -> nn.Module:
    """The recipe's module in eval mode, with the weights that its builder gives it."""
    if ":" not in recipe.model:
        return build_model(recipe.model, recipe.preprocess.size, recipe.num_classes)
    made = _call(recipe.model)
    if not isinstance(made, nn.Module):
        raise UsageError(f"{recipe.model} returned {type(made).__name__}", try_="return a torch.nn.Module")
    return made.eval()


def _call(name: str) -> object:
    """What the user's `module:function` returns, or the `nn.Module` that bears the name itself. The working directory
    is importable, as under `python -m`.
    """
    path, _, function = name.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    hint = "an importable module and a function without arguments: my_package.my_module:make_model"
    if path.endswith(".py"):
        hint = f"{'.'.join(Path(path).with_suffix('').parts)}:{function}"
    try:
        module = importlib.import_module(path)
        if not hasattr(module, function):
            near = nearest(function, vars(module))
            raise UsageError(f"{path} has no function {function!r}", where=str(module.__file__), why=near, try_=hint)
        found = getattr(module, function)
        return found if isinstance(found, nn.Module) else found()
    except ExportError:
        raise
    except Exception as error:
        raise UsageError(
            f"cannot make a model from {name}",
            where=blame(error),
            why=f"{type(error).__name__}: {error}",
            try_=hint if isinstance(error, (ImportError, TypeError, ValueError)) and not blame(error) else (),
        ) from error


def _load(module: nn.Module, recipe: Recipe, calibration: Samples, progress: Progress | None) -> tuple[str, str]:
    """Load the recipe's weights -> what they are, in words, and the sha256 of their file."""
    if recipe.weights == DEMO and ":" not in recipe.model:
        path = demo_weights(recipe.model)
        load_weights(module, path)
        return f"demo, trained on procedural scenes (card {demo_card(recipe.model)})", digest_of(path)
    if recipe.weights != "random":
        own = ":" in recipe.model
        published = None if own else model_info(recipe.model).checkpoints.get(recipe.weights)
        unverified = published is not None and published.sha256 is None
        path = Path(recipe.weights) if own else resolve(recipe.model, recipe.weights, progress)
        try:
            load_weights(module, path)
        except DataError:
            if unverified:  # a login page, say: do not answer with it from the cache ever after
                path.unlink(missing_ok=True)
            raise
        sha256 = digest_of(path)
        if published is None:
            return f"from {recipe.weights}", sha256
        text = f"{recipe.weights}, the official checkpoint {path.name}"
        if unverified:
            text += f" (NOT VERIFIED: no digest is published for it; its sha256 is {sha256})"
        return text, sha256
    count = min(REFIT_PICTURES, len(calibration))
    with one_thread():  # statistics are sums over threads: the file's bytes would depend on their count
        refit_batchnorm(module, _batches(calibration))
    return f"RANDOM (seed 0), BatchNorm statistics refitted on {count} pictures: not trained on any task", ""


def _batches(samples: Samples) -> list[Tensor]:
    pictures = list(islice((x for x, *_ in samples.feeds()), REFIT_PICTURES))
    if len(pictures) == 1:
        pictures *= 2
    return [torch.cat(pictures[i : i + REFIT_BATCH]) for i in range(0, len(pictures) - 1, REFIT_BATCH)]


def _split(samples: Samples, limit: int) -> tuple[Samples, Samples, str]:
    """Every eighth sample (at most 4) verifies and is not calibrated on, where there are at least eight."""
    total = len(samples)
    held = min(MOST_HELD_OUT, total // 8)
    if not held:
        kept = samples.select(range(min(limit, total)))
        return kept, samples, f"{total} samples, {len(kept)} of them calibrated on (too few to hold any out)"
    out = {i * total // held for i in range(held)}
    rest = [i for i in range(total) if i not in out]
    chosen = [rest[i * len(rest) // limit] for i in range(limit)] if len(rest) > limit else rest
    return samples.select(chosen), samples.select(sorted(out)), f"{held} pictures held out of calibration"
