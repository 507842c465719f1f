"""Calibration and evaluation samples: a folder of pictures, ready arrays (.npy, .npz), or a COCO json.

Samples stream: one is decoded while the model works on the one before, so memory does not grow with their number.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Self
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from exporter.errors import DataError, UsageError, nearest
from exporter.quantize.pictures import (
    DECODE_ERRORS,
    PICTURES,
    ahead,
    coco_files,
    decoding_fault,
    header_fault,
    pictures_below,
    read_coco,
    refuse_unreadable,
    spread,
)
from exporter.quantize.preprocess import Preprocess

MANIFEST = "manifest.json"
"""Beside the project's own pictures: where each comes from, and its licence."""


class Samples:
    """A sized, repeatable stream of model inputs, in the same order on every run.

    `source` is the path it came from, `names` one name per sample, `available` the count before `limit`.
    """

    source: Path
    names: tuple[str, ...]
    available: int

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Tensor]:
        """The only input of a one-input model, float32 [1, ...] (pictures: [1, 3, height, width])."""
        for feed in self.feeds():
            (x,) = feed
            yield x

    def feeds(self) -> Iterator[tuple[Tensor, ...]]:
        """One tuple of float32 [1, ...] per sample, in the order of the model's inputs; read in a thread, ahead."""
        return ahead(self._read())

    def select(self, indices: Iterable[int]) -> Self:
        """The samples at these positions, in this order, as a stream of their own."""
        raise NotImplementedError

    @property
    def sha256(self) -> str:
        """Hex digest over the names and contents of the samples, whatever folder they lie in."""
        raise NotImplementedError

    @property
    def digests(self) -> tuple[str, ...]:
        """sha256 of the content of every picture; none of arrays."""
        return ()

    def _read(self) -> Iterator[tuple[Tensor, ...]]:
        raise NotImplementedError


class Pictures(Samples):
    """Picture files. `coco` is the json they were listed in, if any, and `image_ids` their ids there."""

    def __init__(
        self, source: Path, files: Mapping[str, Path], preprocess: Preprocess, limit: int | None, coco: Any = None
    ) -> None:
        self.source, self.preprocess, self.coco = source, preprocess, coco
        names = sorted(files)
        self.available = len(names)
        self.names = tuple(names[i] for i in spread(len(names), limit))
        self.files = tuple(files[name] for name in self.names)
        ids = {image["file_name"]: image.get("id") for image in coco["images"]} if coco else {}
        self.image_ids = tuple(ids[name] for name in self.names) if coco else ()
        refuse_unreadable(source, len(self), {n: fault for n in self.names if (fault := header_fault(files[n]))})

    def select(self, indices: Iterable[int]) -> Self:
        part, chosen = copy(self), list(indices)
        for cached in ("sha256", "digests"):
            part.__dict__.pop(cached, None)
        part.names = tuple(self.names[i] for i in chosen)
        part.files = tuple(self.files[i] for i in chosen)
        part.image_ids = tuple(self.image_ids[i] for i in chosen) if self.image_ids else ()
        return part

    @cached_property
    def sha256(self) -> str:
        digest = hashlib.sha256()
        for name, content in zip(self.names, self.digests, strict=True):
            digest.update(name.encode() + b"\0" + bytes.fromhex(content))
        return digest.hexdigest()

    @cached_property
    def digests(self) -> tuple[str, ...]:
        return tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in self.files)

    def _read(self) -> Iterator[tuple[Tensor, ...]]:
        for path in self.files:
            try:
                with Image.open(path) as image:
                    x = self.preprocess.apply(image)
            except (DataError, *DECODE_ERRORS):  # check the rest too: all offenders in one message
                pairs = zip(self.names, self.files, strict=True)
                faults = {name: fault for name, file in pairs if (fault := decoding_fault(file, self.preprocess))}
                refuse_unreadable(self.source, len(self), faults)
                raise
            yield (x[None],)


class Arrays(Samples):
    """Rows of arrays that are preprocessed already: one array per model input, the samples along axis 0."""

    def __init__(self, source: Path, inputs: Mapping[str, Sequence[int]], limit: int | None) -> None:
        self.source = source
        self._keys = _keys(source, list(inputs))
        shapes = zip(self._keys, inputs.values(), strict=True)
        counts = {key: _check_header(source, key, shape) for key, shape in shapes}
        if len(set(counts.values())) != 1:
            raise DataError(f"the arrays of {source} differ in their number of samples", where=f"{counts}")
        self.available = next(iter(counts.values()))
        self._wanted = spread(self.available, limit)
        self.names = tuple(f"{source.name}[{i}]" for i in self._wanted)
        _ = self.sha256  # reads every row, so a bad one is found before the work starts

    def select(self, indices: Iterable[int]) -> Self:
        part = copy(self)
        part.__dict__.pop("sha256", None)
        part._wanted = sorted(self._wanted[i] for i in indices)
        part.names = tuple(f"{self.source.name}[{i}]" for i in part._wanted)
        return part

    @cached_property
    def sha256(self) -> str:
        digest = hashlib.sha256()
        for key in self._keys:
            for i, row in zip(self._wanted, _rows(self.source, key, self._wanted), strict=True):
                if not np.isfinite(row).all():
                    raise DataError(f"sample {i} of {self.source}{_of(key)} holds NaN or infinity")
                digest.update(row.tobytes())
        return digest.hexdigest()

    def _read(self) -> Iterator[tuple[Tensor, ...]]:
        for rows in zip(*(_rows(self.source, key, self._wanted) for key in self._keys), strict=True):
            yield tuple(torch.from_numpy(row[None]) for row in rows)


def load_samples(
    source: str | Path,
    preprocess: Preprocess,
    limit: int | None = None,
    inputs: Mapping[str, Sequence[int]] | None = None,
) -> Samples:
    """Samples from a folder (searched recursively, sorted by name), a .npy or .npz, or a COCO json.

    `inputs` maps the model's input names to shapes [1, ...]; by default one picture input of `preprocess.size`.
    Arrays are float32 [samples, ...], preprocessed already; an .npz for several inputs names its arrays after them.
    A COCO json finds its pictures beside itself, in `images/`, or where the COCO release keeps them.
    With `limit` below the count, evenly spread samples are taken. Raises DataError, and UsageError for `limit` < 1.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"at least one sample is needed, not {limit}")
    path = Path(source)
    inputs = inputs or {"input": (1, 3, *preprocess.size)}
    if not path.exists():
        raise DataError(f"{path} does not exist", try_="give a folder of pictures, an .npz or .npy, or a COCO json")
    if path.suffix in (".npy", ".npz"):
        return Arrays(path, inputs, limit)
    if len(inputs) > 1:
        raise DataError(
            f"the model has {len(inputs)} inputs, and pictures fill only one",
            try_=f"give an .npz with the arrays {', '.join(inputs)}",
        )
    if path.is_dir():
        return Pictures(path, pictures_below(path), preprocess, limit)
    if path.suffix == ".json":
        coco = read_coco(path)
        return Pictures(path, coco_files(path, coco), preprocess, limit, coco)
    raise DataError(
        f"{path} is not a source of samples",
        why=f"{path.suffix or 'a file without suffix'} is none of: a folder, .npy, .npz, .json",
        try_=f"give its folder: {path.parent}" if path.suffix.lower() in PICTURES else "see calib_data/README.md",
    )


def array_shapes(source: str | Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of one sample, [1, ...], for the arrays of an .npz (a .npy: one without a name).

    Empty for other sources, and for a file that is missing or damaged: `load_samples` says what is wrong with it.
    """
    path = Path(source)
    if path.suffix not in (".npy", ".npz"):
        return {}
    try:
        keys = _members(path) if path.suffix == ".npz" else [""]
        return {key: (1, *_shape(path, key)[1:]) for key in keys}
    except DataError:
        return {}


def own_samples_dir() -> Path:
    """calib_data/, the sample pictures that come with the project: beside the package in a checkout, inside it in a
    wheel.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "calib_data", package.parent / "calib_data"):
        if (folder / "photos" / MANIFEST).is_file():
            return folder
    raise DataError("the project's sample pictures are missing", try_="reinstall, or give your own with --calib DIR")


def default_samples_dir() -> Path:
    """The photographs among them, which calibrate where a recipe names nothing else."""
    return own_samples_dir() / "photos"


def source_path(name: str) -> Path:
    """Where the source of that name lies: what `source_name` gave is found wherever the project is installed."""
    path, (first, *rest) = Path(name), Path(name).parts or ("",)
    return own_samples_dir().joinpath(*rest) if first == "calib_data" and not path.exists() else path


def source_name(source: Path) -> str:
    """Where samples lie, without a machine's path where they are the project's own."""
    path, own = Path(source).resolve(), own_samples_dir()
    return f"calib_data/{path.relative_to(own).as_posix()}" if path.is_relative_to(own) else str(source)


# Arrays


def _keys(source: Path, inputs: list[str]) -> list[str]:
    """The .npz member that feeds each input; `[""]` for a .npy."""
    if source.suffix == ".npy":
        if len(inputs) > 1:
            raise DataError(f"a .npy feeds one input; the model has {len(inputs)}", try_="give an .npz")
        return [""]
    found = _members(source)
    if not found:
        raise DataError(f"{source} holds no arrays", try_="write it with numpy.savez(path, input=array)")
    if len(inputs) == 1 and len(found) == 1:
        return found
    absent = [name for name in inputs if name not in found]
    if absent:
        raise DataError(
            f"{source} has no array for {', '.join(absent)}",
            why=f"it holds {', '.join(found)}",
            try_=nearest(found[0], absent) or "name each array after the model's input",
        )
    return inputs


def _members(source: Path) -> list[str]:
    """Names of the arrays of an .npz."""
    try:
        with ZipFile(source) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    except (OSError, BadZipFile) as error:
        raise DataError(f"{source} is not an .npz archive", why=str(error)) from error


def _shape(source: Path, key: str) -> tuple[int, ...]:
    with _open(source, key) as stream:
        return _array_header(stream, f"{source}{_of(key)}")[0]


def _of(key: str) -> str:
    return f", array {key}" if key else ""


@contextmanager
def _open(source: Path, key: str) -> Iterator[IO[bytes]]:
    try:
        with (
            ZipFile(source) if key else nullcontext() as archive,
            archive.open(f"{key}.npy") if archive else source.open("rb") as stream,
        ):
            yield stream
    except (OSError, EOFError, BadZipFile, zlib.error) as error:
        raise DataError(f"{source}{_of(key)} is corrupt", why=str(error), try_="write or copy it again") from error


def _array_header(stream: IO[bytes], where: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of the .npy format (NEP 1). Arrays of Python objects are pickles, which are never loaded."""
    try:
        version = np.lib.format.read_magic(stream)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, fortran, dtype = read(stream)
    except (ValueError, KeyError) as error:
        raise DataError(f"{where} is not a NumPy array file", why=str(error)) from error
    if dtype.hasobject:
        raise DataError(
            f"{where} holds pickled Python objects",
            why="unpickling runs code from the file",
            try_="save one plain float32 array",
        )
    if fortran:
        raise DataError(f"{where} is stored in Fortran order", try_="save numpy.ascontiguousarray(array)")
    return shape, dtype


def _check_header(source: Path, key: str, expected: Sequence[int]) -> int:
    """The number of samples, once dtype and shape fit the model's input."""
    where = f"{source}{_of(key)}"
    with _open(source, key) as stream:
        shape, dtype = _array_header(stream, where)
    if dtype != np.float32:
        pixels = "; uint8 pictures belong in a folder, as files" if dtype == np.uint8 else ""
        raise DataError(
            f"{where} is {dtype}, not float32",
            why="arrays must be what the model takes, preprocessed already" + pixels,
            try_="save array.astype(numpy.float32)",
        )
    row = tuple(expected)[1:]
    if shape[1:] != row or not shape or shape[0] == 0:
        hint = "save array.transpose(0, 3, 1, 2): the model takes NCHW"
        if shape == row:
            hint = "save array[None]: the first axis counts the samples"
        elif len(shape) != 4 or (shape[3], shape[1], shape[2]) != row:
            hint = "preprocess to the model's input size, or give pictures instead"
        raise DataError(
            f"{where} has shape {list(shape)}", why=f"the model's input needs {['samples', *row]}", try_=hint
        )
    return shape[0]


def _rows(source: Path, key: str, wanted: Sequence[int]) -> Iterator[np.ndarray]:
    """The rows `wanted` (ascending) of one float32 array, each read on its own."""
    where = f"{source}{_of(key)}"
    with _open(source, key) as stream:
        shape, dtype = _array_header(stream, where)
        size, at = math.prod(shape[1:]) * dtype.itemsize, 0
        for i in wanted:
            stream.seek((i - at) * size, 1)
            data, at = stream.read(size), i + 1
            if len(data) < size:
                raise DataError(f"{where} ends early, at sample {i} of {shape[0]}", try_="write or copy it again")
            yield np.frombuffer(bytearray(data), dtype).reshape(shape[1:])
