"""A few pictures, each with what PyTorch and the files found in it: gathered while verification runs them anyway."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from exporter.quantize.pictures import spread
from exporter.verify.marks import Marks, ReadMarks
from exporter.verify.metrics.protocol import Tensors

MOST_SHOWN = 4


@dataclass
class Shown:
    """One picture as the network saw it, float32 [3, height, width], and what each found, PyTorch first."""

    name: str
    picture: Tensor
    found: dict[str, Marks] = field(default_factory=dict)


class Gallery:
    """Takes in outputs picture by picture, keeps those of `MOST_SHOWN`, evenly spread over `names`."""

    def __init__(self, read: ReadMarks, names: Sequence[str], source: str) -> None:
        self.source = source
        """Where the pictures come from, in words."""
        self._read = read
        self._names = {i: names[i] for i in spread(len(names), MOST_SHOWN)}
        self._shown: dict[int, Shown] = {}

    @property
    def shown(self) -> list[Shown]:
        """In the order of the pictures."""
        return [self._shown[number] for number in sorted(self._shown)]

    def add(self, number: int, sample: Tensors, by: str, outputs: Tensors) -> None:
        """What `by` (PyTorch, a file) gave for a sample of picture `number`: its first one, if several people are cut
        out of it.
        """
        if number not in self._names:
            return
        shown = self._shown.setdefault(number, Shown(self._names[number], sample[0][0].clone()))
        if by not in shown.found:
            shown.found[by] = self._read(outputs)
