"""The files of a bundle that devices run, each with its inputs; and a float export of the same model beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from exporter.bundle import read_manifest, sha256
from exporter.errors import DataError, UsageError
from exporter.verify.borders import borders
from exporter.verify.golden import read_golden
from exporter.verify.on_device import FORMATS, Subject
from exporter.verify.photos import feeds, photos

SAME = ("model", "state_sha256", "postprocess", "inputs", "preprocess")
"""What two exports of one model have in common, of the manifest and its recipe."""


def files_of(manifest: Mapping[str, Any]) -> dict[str, str]:
    """File name of each target."""
    targets = manifest.get("targets")
    return {str(name): str(file) for name, file in targets.items()} if isinstance(targets, dict) else {}


def subjects(folder: Path, files: Mapping[str, str], images: str | None) -> list[Subject]:
    """Of the files (target -> name) that devices can run. Raises UsageError where there are none."""
    portable = {target: file for target, file in files.items() if file.endswith(FORMATS)}
    if not portable:
        able = f"what can be run of it is {', '.join(files.values()) or 'nothing'}"
        why = f"devices run {' and '.join(FORMATS)}, and {able}"
        raise UsageError(f"{folder} has no file to run on a device", why=why, try_="without --on and --eval")
    recipe = _recipe(read_manifest(folder))
    pictures = photos(folder, images)
    found = []
    for target, file in portable.items():
        golden, inputs, _ = read_golden(folder / "golden" / target / "golden.json")
        ends = borders(folder / file)
        found.append(
            Subject(
                target=target,
                path=folder / file,
                precision=_precision(recipe),
                feeds=feeds(inputs, pictures, ends[0], file),
                borders=ends,
                detections=golden.detections.outputs if golden.detections else (),
                reduced_range=bool(recipe.get("onnx_reduce_range")),
            )
        )
    return found


def twins(folder: Path, of: Path) -> dict[str, Subject]:
    """Target -> the float file of `folder`, with its golden input. Raises DataError unless it was exported from the
    model and the weights of the bundle `of`.
    """
    ours, theirs = read_manifest(of), read_manifest(folder)
    precision = _precision(_recipe(theirs))
    if precision == _precision(_recipe(ours)):
        raise UsageError(f"--float {folder} is {precision}, and so is {of}", try_="--float with an int8 bundle")
    if not precision.startswith("float"):
        raise UsageError(f"--float {folder} is {precision}", try_="export the model again without --int8")
    if differing := [key for key in SAME if _stated(ours, key) != _stated(theirs, key) or _absent(ours, key)]:
        raise DataError(
            f"{folder} is no float export of the model of {of}",
            where=[f"{key}  {_short(_stated(ours, key))}, there {_short(_stated(theirs, key))}" for key in differing],
            try_="export both from one recipe with the same weights",
        )
    found = {}
    for target, file in files_of(theirs).items():
        if file.endswith(FORMATS):
            if sha256(folder / file) != theirs["files"].get(file, {}).get("sha256"):
                raise DataError(f"{folder / file} is not as it was exported", try_="export again")
            _, inputs, _ = read_golden(folder / "golden" / target / "golden.json")
            found[target] = Subject(target, folder / file, precision, [inputs])
    return found


def _recipe(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    recipe = manifest.get("recipe")
    return recipe if isinstance(recipe, dict) else {}


def _precision(recipe: Mapping[str, Any]) -> str:
    """Of the .tflite and .onnx files, whose floats are float32 unless they are asked to be float16."""
    precision = str(recipe.get("precision", ""))
    return "float32" if precision == "float" else precision


def _stated(manifest: Mapping[str, Any], key: str) -> object:
    return manifest.get(key, _recipe(manifest).get(key))


def _absent(manifest: Mapping[str, Any], key: str) -> bool:
    return key not in manifest and key not in _recipe(manifest)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 48 else f"{text[:45]}..."
