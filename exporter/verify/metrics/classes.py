"""Which class of the model a name in a labelled set means."""

from __future__ import annotations

import re
from collections.abc import Sequence

from exporter.errors import DataError, UsageError, nearest
from exporter.quantize.pictures import some

WORDNET = re.compile(r"n\d{8}")


def class_numbers(names: Sequence[str], labels: Sequence[str], count: int, source: str) -> dict[str, int]:
    """The class, counted from 0, of each name of a set, for a model of `count` classes.

    In this order: names that are labels (case, `_` and spaces aside), names that are all numbers of classes, and as
    many names as classes, in their given order, where the model's are unnamed or the names are ImageNet's WordNet ids.
    Raises DataError for names that are none of these, UsageError for labels that are not the model's.
    """
    if labels and len(labels) != count:
        raise UsageError(
            f"the recipe has {len(labels)} labels, and the model {count} classes",
            try_="labels: FILE with one label a line, in the order of the model's classes",
        )
    known: dict[str, list[int]] = {}
    for number, label in enumerate(labels):
        known.setdefault(plain(label), []).append(number)
    if all(name.isdecimal() and int(name) < count for name in names) and not known.keys() & set(map(plain, names)):
        return {name: int(name) for name in names}
    if len(names) == count and (not labels or all(WORDNET.fullmatch(name) for name in names)):
        return {name: number for number, name in enumerate(names)}
    if not labels:
        raise DataError(
            f"{source} has {len(names)} classes, and the model {count} unnamed ones",
            where=some(names),
            why="as many names as classes would be taken in their order",
            try_="labels: FILE in the recipe, one label a line; or name the classes by number, from 0",
        )
    if faults := [fault for name in names if (fault := _fault(name, known))]:
        raise DataError(
            f"{len(faults)} of {len(names)} classes of {source} are not the model's",
            where=some(faults),
            why=f"its {count} labels begin with {', '.join(labels[:3])}",
            try_="name classes after the recipe's labels, or by number, from 0",
        )
    return {name: known[plain(name)][0] for name in names}


def plain(name: str) -> str:
    """A name with case, `_` and the number of spaces aside."""
    return " ".join(name.casefold().replace("_", " ").split())


def _fault(name: str, known: dict[str, list[int]]) -> str:
    numbers = known.get(plain(name), [])
    if not numbers:
        return f"{name}  {nearest(plain(name), known)}".rstrip()
    return f"{name}  is the label of classes {' and '.join(map(str, numbers))}" if len(numbers) > 1 else ""
