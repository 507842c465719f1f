"""What lands on disk (DESIGN.md §6). A bundle is written into a temporary folder beside its place and renamed."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from exporter.errors import DataError, UsageError
from exporter.ir.graph import Graph
from exporter.verify.codes import output_params
from exporter.verify.comparison import Artifact
from exporter.verify.detections import SAME, detection_outputs

MANIFEST = "manifest.json"
EXECUTOR_NOTE = "the outputs are the reference executor's, not Core ML's, whose roundings differ: tolerances are wide"
EXECUTOR_SHARE = 0.05
"""Of an output's largest value: what Core ML may differ from the reference executor; a bound for apps, not a figure."""
SAME_SHARE = 0.99
"""Detections of the golden picture that must come again: near-equal scores may change places at the last row."""


@contextmanager
def writing(destination: Path) -> Iterator[Path]:
    """A temporary folder that becomes `destination` when the block ends well, and vanishes when it does not.

    An older bundle there is replaced; any other non-empty folder is refused. Raises UsageError where the place cannot
    be written, DataError when the disk is full.
    """
    place = destination.resolve()
    _refuse_foreign(place, destination)
    made = [parent for parent in place.parents if not parent.exists()]
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    except OSError as error:
        _remove_empty(made)
        raise UsageError(
            f"cannot write to {destination.parent}", why=error.strerror or str(error), try_="--out FOLDER elsewhere"
        ) from error
    try:
        folder.chmod(0o755)
        yield folder
        _replace(place, folder)
    except BrokenPipeError:  # of the terminal, not of the disk
        raise
    except OSError as error:
        raise DataError(
            f"cannot write the bundle {destination}",
            why=error.strerror or str(error),
            try_="free some disk space, or --out FOLDER elsewhere",
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _remove_empty(made)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Indented JSON with a newline at the end."""
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write_golden(folder: Path, artifact: Artifact, sample: Sequence[Tensor]) -> None:
    """One input and the outputs that the runtime gave for it, raw little-endian, for the app's tests on the phone."""
    folder.mkdir(parents=True)
    graph, opened = artifact.graph, artifact.opened
    arrays = opened.given(sample)
    found = artifact.results(arrays)
    detected = [graph.output_names[i] for i in detection_outputs(graph)]
    results = {name: found[name] for name in graph.output_names if name not in detected}
    if detected:
        fetched = dict(zip(graph.output_names, (tensor.numpy() for tensor in opened.fetch(found)), strict=True))
        results |= dict(zip(detected, _without_leftovers([fetched[name] for name in detected]), strict=True))
    executor = opened.shipped is None

    def tolerance(array: np.ndarray, index: int) -> float:
        widest = EXECUTOR_SHARE * float(np.abs(array).max(initial=0.0))
        return widest if executor else _tolerance(array, graph, index)

    entries: dict[str, list[dict[str, Any]]] = {"inputs": [], "outputs": []}
    for kind, pairs in (
        ("inputs", list(arrays.items())),
        ("outputs", [(name, results[name]) for name in graph.output_names]),
    ):
        for index, (name, array) in enumerate(pairs):
            path = folder / f"{kind[:-1]}_{index}.bin"
            path.write_bytes(np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes())
            entries[kind].append(
                {"name": name, "file": path.name, "dtype": str(array.dtype), "shape": list(array.shape)}
                | ({"tolerance": tolerance(array, index)} if kind == "outputs" and name not in detected else {})
            )
    note = "tolerance is the largest absolute difference that another runtime of the same version may show"
    facts: dict[str, Any] = {"runtime": opened.runtime.runtime, "note": EXECUTOR_NOTE if executor else note, **entries}
    if detected:
        facts["detections"] = {
            "note": "compare the first rows, as many as the last of these outputs says, as sets: a pair has one class, "
            "an IoU of at least least_iou and scores at most most_score apart; at least least_share must pair up",
            "outputs": detected,
            "least_iou": SAME.iou,
            "most_score": SAME.score,
            "least_share": SAME_SHARE,
        }
    write_json(folder / "golden.json", facts)


def _without_leftovers(outputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Boxes, classes, scores and number of one picture; the runtime leaves anything in rows beyond the number."""
    *lists, count = outputs
    cleared = [array.copy() for array in lists]
    for array in cleared:
        array[:, int(count[0]) :] = 0
    return [*cleared, count]


def _tolerance(array: np.ndarray, graph: Graph, index: int) -> float:
    """One LSB for int8 outputs, 1e-3 of the largest value for float ones."""
    params = output_params(graph)[index]
    if params is None:
        return float(1e-3 * np.abs(array).max())
    return params.scale[0] if array.dtype.kind == "f" else 1.0


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> None:
    """manifest.json: `facts`, and size and sha256 of every other file of the bundle."""
    files = {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    write_json(folder / MANIFEST, {**facts, "files": files})


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a bundle. Raises DataError when there is none."""
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text())
        if not isinstance(content.get("files"), dict):
            raise ValueError("it lists no files")
        return dict(content)
    except OSError as error:
        raise DataError(
            f"{folder} is not a bundle",
            why=f"no readable {MANIFEST}: {error.strerror}",
            try_="the folder that edge-export named; a lone .tflite file: edge-export inspect FILE",
        ) from error
    except (ValueError, AttributeError) as error:
        raise DataError(f"{path} is damaged", why=str(error), try_="export again") from error


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _refuse_foreign(place: Path, destination: Path) -> None:
    if place.is_file() or (place.is_dir() and any(place.iterdir()) and not (place / MANIFEST).is_file()):
        raise UsageError(
            f"{destination} exists and is not a bundle of ours", try_="--out FOLDER: an empty or a new one"
        )


def _remove_empty(folders: Iterable[Path]) -> None:
    """Those of our own making that hold nothing after all, innermost first."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def _replace(place: Path, folder: Path) -> None:
    """Put `folder` at `place`; what was there comes back if that fails."""
    if not place.exists():
        folder.rename(place)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{place.name}-old-", dir=place.parent))
    place.rename(old / place.name)
    try:
        folder.rename(place)
    except BaseException:
        (old / place.name).rename(place)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
