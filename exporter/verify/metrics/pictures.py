"""What every labelled set of picture files has in common: reading ahead, digests, faults."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from exporter.errors import DataError
from exporter.quantize.data import source_name
from exporter.quantize.pictures import DECODE_ERRORS, ahead, decoding_fault, header_fault, refuse_unreadable, spread
from exporter.quantize.preprocess import Preprocess, rgb
from exporter.verify.metrics.protocol import Labelled

EXIF_ORIENTATION, ON_ITS_SIDE = 0x0112, 5


class LabelledPictures:
    """Picture files in the order of their names, at most `limit`, evenly spread. Subclasses know the labels."""

    def __init__(self, source: Path, files: Mapping[str, Path], preprocess: Preprocess, limit: int | None) -> None:
        self.source, self.preprocess = source_name(source), preprocess
        names = sorted(files)
        self.available = len(names)
        self.names = tuple(names[i] for i in spread(len(names), limit))
        self.files = tuple(files[name] for name in self.names)
        self._digests: dict[str, str] = {}
        faults = {name: fault for name in self.names if (fault := header_fault(files[name]))}
        refuse_unreadable(source, len(self.names), faults)

    def inputs(self, number: int, image: Image.Image) -> Iterator[tuple[Tensor, Any]]:
        """The inputs [3, height, width] that the picture `number`, upright RGB, gives, and the label of each."""
        raise NotImplementedError

    def digests(self) -> dict[str, str]:
        """Name -> sha256 of the content, of every picture read so far."""
        return dict(self._digests)

    def __iter__(self) -> Iterator[Labelled]:
        return ahead(self._read())

    def _read(self) -> Iterator[Labelled]:
        for number, (name, path) in enumerate(zip(self.names, self.files, strict=True)):
            try:
                content = path.read_bytes()
                self._digests[name] = hashlib.sha256(content).hexdigest()
                with Image.open(BytesIO(content)) as image:
                    found = list(self.inputs(number, rgb(image)))
            except (DataError, *DECODE_ERRORS):  # check the rest too: all offenders in one message
                pairs = zip(self.names, self.files, strict=True)
                faults = {name: fault for name, file in pairs if (fault := decoding_fault(file, self.preprocess))}
                refuse_unreadable(Path(self.source), len(self.names), faults)
                raise
            for x, truth in found:
                yield Labelled(number, (x[None],), truth)


def upright_size(path: Path) -> tuple[int, int]:
    """Width and height of a picture as it is shown, from its header."""
    with Image.open(path) as image:
        width, height = image.size
        exif = Image.Image.getexif(image)  # a PNG's own would decode the picture
        return (height, width) if exif.get(EXIF_ORIENTATION, 1) >= ON_ITS_SIDE else (width, height)
