"""`edge-export inspect PATH`: what a model file holds, ours or another's. Nothing of it is run."""

from __future__ import annotations

import importlib
from pathlib import Path

from exporter.bundle import read_manifest
from exporter.errors import DataError, nearest
from exporter.report.inspect.found import Inspection as Inspection
from exporter.report.inspect.sheet import print_inspection as print_inspection

FORMATS = {".tflite": "tflite", ".onnx": "onnx", ".mlpackage": "coreml"}
"""Suffix -> the module that reads it; imported late, for each needs a package of its own."""


def inspect_files(path: Path) -> tuple[Inspection, ...]:
    """The file, or every model file of a bundle folder. Raises DataError for a missing, foreign or damaged one,
    RuntimeUnavailable where the package that reads its format is absent.
    """
    path = Path(path)
    bundled = path.is_dir() and path.suffix != ".mlpackage"
    return tuple(inspect_file(file) for file in (_models(path) if bundled else (path,)))


def inspect_file(path: Path) -> Inspection:
    """One file, or that of a bundle with one target; see `inspect_files`."""
    path = Path(path)
    if path.is_dir() and path.suffix != ".mlpackage":
        (path,) = _models(path)
    if path.suffix in FORMATS:
        reader = importlib.import_module(f"exporter.report.inspect.{FORMATS[path.suffix]}")
        try:
            found: Inspection = reader.read(path)
        except (LookupError, ValueError, TypeError, AttributeError) as error:  # names and offsets that lead nowhere
            why = f"{type(error).__name__}: {error}"
            raise DataError(f"{path} is damaged", why=why, try_="export it again, or copy it again") from error
        return found
    names = list(FORMATS)
    if not path.exists():
        raise DataError(f"there is no {path}", try_="edge-export inspect FILE, or the folder of a bundle")
    raise DataError(
        f"{path} is no {', '.join(names[:-1])} or {names[-1]}",
        why=nearest(path.suffix, FORMATS),
        try_="a file or folder of one of these names, or a bundle that edge-export wrote",
    )


def _models(folder: Path) -> list[Path]:
    """The model files that a bundle's manifest names."""
    targets = read_manifest(folder).get("targets")
    names = list(targets.values()) if isinstance(targets, dict) else []
    if not names or not all(isinstance(name, str) and name.endswith(tuple(FORMATS)) for name in names):
        raise DataError(f"the manifest of {folder} names no model file", try_="edge-export inspect FILE")
    return [folder / name for name in names]
