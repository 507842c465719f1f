"""The folder that a .mlpackage is: a manifest that lists items, one of them the model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporter.errors import DataError, RuntimeUnavailable

MANIFEST = "Manifest.json"
ITEMS = "Data"
"""Items lie in this folder, at the paths that the manifest gives."""


@dataclass(frozen=True)
class Package:
    """`model` is the parsed specification (CoreML.Specification.Model), `folder` where it lies: `@model_path`."""

    path: Path
    folder: Path
    model: Any


def read_package(path: Path) -> Package:
    """Raises DataError for a folder that is missing, foreign or broken."""
    path = Path(path)
    if not path.is_dir():
        raise DataError(f"there is no folder {path}", why="" if not path.exists() else "a .mlpackage is a folder")
    file = path / ITEMS / _root(path)
    inside(path, file)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise broken(path, f"{file.relative_to(path)}: {error.strerror}") from error
    model = _specification()
    try:
        model.ParseFromString(content)
    except Exception as error:  # protobuf's DecodeError; its class depends on the implementation that is loaded
        raise broken(path, f"{file.name} is no whole Core ML specification: {error}") from error
    if not content or model.WhichOneof("Type") is None:
        raise broken(path, f"{file.name} holds no model")
    return Package(path, file.parent, model)


def _specification() -> Any:
    """An empty specification, of Apple's protobuf schema."""
    try:
        from exporter.lower.coreml.schema import Model
    except ImportError as error:
        raise RuntimeUnavailable(
            "coremltools is not installed", why=str(error), try_='pip install "edge-export[coreml]"'
        ) from error
    return Model.Model()


def inside(path: Path, file: Path) -> None:
    """Raises DataError for a file that a package names outside itself."""
    if not file.resolve().is_relative_to(path.resolve()):
        raise broken(path, f"it names a file outside itself: {file}")


def broken(path: Path, why: str) -> DataError:
    """The one message for a package that cannot be read."""
    return DataError(f"{path} is not a whole Core ML package", why=why, try_="copy the folder again, or export again")


def _root(path: Path) -> str:
    """Path of the model below `Data`, from the manifest."""
    file = path / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        return str(manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"])
    except OSError as error:
        raise broken(path, f"{MANIFEST}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise broken(path, f"{MANIFEST} names no model: {type(error).__name__} {error}") from error
