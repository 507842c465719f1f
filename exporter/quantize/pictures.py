"""Picture files: finding them in a folder or through a COCO json, reading ahead, and what is wrong with one."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image, UnidentifiedImageError

from exporter.errors import DataError
from exporter.quantize.preprocess import Preprocess

T = TypeVar("T")

PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"}
AHEAD = 4
"""Samples decoded before they are asked for: enough to hide a slow picture, 3 MB each at 512 x 512."""
DECODE_ERRORS = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What Pillow raises on broken files: its PNG reader uses SyntaxError and ValueError beside OSError."""


def pictures_below(path: Path) -> dict[str, Path]:
    """Name relative to the folder -> file, for every picture in it; hidden files are left out."""
    found = {p.relative_to(path): p for p in path.rglob("*") if p.is_file()}
    seen = {name.as_posix(): p for name, p in found.items() if not any(part.startswith(".") for part in name.parts)}
    pictures = {name: p for name, p in seen.items() if p.suffix.lower() in PICTURES}
    if not pictures:
        kinds = Counter(p.suffix or p.name for p in seen.values()).most_common(5)
        raise DataError(
            f"no pictures in {path}",
            why="it holds " + ", ".join(f"{n} {kind}" for kind, n in kinds) if seen else "the folder is empty",
            try_=f"put {', '.join(sorted(PICTURES))} files in it",
        )
    return pictures


def read_coco(path: Path) -> dict[str, Any]:
    """A COCO json whose `images` are sound; nothing else in it is looked at."""
    try:
        coco: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not JSON", why=str(error)) from error
    images = coco.get("images") if isinstance(coco, dict) else None
    if not (isinstance(images, list) and images and all(_has_name(image) for image in images)):
        raise DataError(
            f"{path} is not a COCO file",
            why="COCO has a list `images`, not empty, whose entries carry `file_name`",
            try_="give an instances_*.json or person_keypoints_*.json, or simply the folder of pictures",
        )
    return coco


def _has_name(image: Any) -> bool:
    return isinstance(image, dict) and isinstance(image.get("file_name"), str)


def coco_files(path: Path, coco: Mapping[str, Any]) -> dict[str, Path]:
    """`file_name` -> file, for every picture that the json at `path` lists."""
    names = [image["file_name"] for image in coco["images"]]
    split = path.stem.rsplit("_", 1)[-1]  # the COCO release: annotations/instances_val2017.json and val2017/
    folders = [path.parent, path.parent / "images", path.parent.parent / "images", path.parent.parent / split]
    files = {name: next((f for folder in folders if (f := folder / name).is_file()), None) for name in names}
    missing = [name for name, file in files.items() if file is None]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(names)} pictures of {path} are missing",
            where=some(missing),
            why="looked in " + ", ".join(str(folder) for folder in folders),
            try_="put the pictures in one of these folders",
        )
    return {name: file for name, file in files.items() if file is not None}


def header_fault(path: Path) -> str:
    """What is wrong with a picture file's header, or an empty string; reads no pixels."""
    try:
        with Image.open(path):
            return ""
    except UnidentifiedImageError:
        return "is empty" if path.stat().st_size == 0 else "is not a picture"
    except DECODE_ERRORS as error:
        return str(error)


def decoding_fault(path: Path, preprocess: Preprocess) -> str:
    """What goes wrong when a picture is decoded and preprocessed, or an empty string."""
    try:
        with Image.open(path) as image:
            preprocess.apply(image)
    except DataError as error:
        return error.what
    except DECODE_ERRORS as error:
        return str(error)
    return ""


def refuse_unreadable(source: Path, count: int, faults: Mapping[str, str]) -> None:
    """DataError for pictures of `source` that cannot be read: name -> what is wrong. Nothing without any."""
    if faults:
        raise DataError(
            f"{len(faults)} of {count} pictures in {source} cannot be read",
            where=some([f"{name}  {fault}" for name, fault in faults.items()]),
            why=f"the other {count - len(faults)} are fine" if len(faults) < count else "",
            try_="delete or replace the named files; a truncated download is the usual cause",
        )


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, made in a thread up to `AHEAD` before they are asked for. None among them ends the stream."""
    with ThreadPoolExecutor(1, thread_name_prefix="samples") as pool:
        queue = deque(pool.submit(next, items, None) for _ in range(AHEAD))
        try:
            while (item := queue.popleft().result()) is not None:
                queue.append(pool.submit(next, items, None))
                yield item
        finally:
            pool.shutdown(cancel_futures=True)


def spread(count: int, limit: int | None) -> list[int]:
    """At most `limit` of `count` indices, evenly spread from the first."""
    taken = count if limit is None else min(count, limit)
    return [i * count // taken for i in range(taken)]


def some(lines: Sequence[str], most: int = 10) -> list[str]:
    """The first lines, and how many there are more."""
    return [*lines[:most], *([f"and {len(lines) - most} more"] if len(lines) > most else [])]
