"""What `inspect` finds in a file of any format, and how ops are counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True)


class Tensor(_Row):
    """An input or output as stored. `scale` and `zero_point` are None when it is not quantised; a side that varies is
    given in words.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    """Normalisation from the metadata: per channel, for pixels in 0..255."""
    labels: int = 0
    """Labels of this tensor."""


class OpKind(_Row):
    """One kind of op: how often, on integers alone or not. `version` is None where the format has none for each op."""

    op: str
    version: int | None = None
    count: int
    floats: int
    """How many of them work on floats."""


class Sizes(_Row):
    """Bytes: `weights` are the kernels of convolutions and matrix products, `rest` is graph, metadata, labels."""

    total: int
    weights: int
    constants: int
    rest: int


class Inspection(_Row):
    """What was found in one file. `weights` counts the elements of kernels by the dtype in which they are stored."""

    path: str
    format: str
    sha256: str = ""
    """Empty for a folder, whose files are in `details`."""
    sizes: Sizes
    weights: dict[str, int]
    name: str = ""
    description: str = ""
    version: str = ""
    author: str = ""
    licence: str = ""
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    ops: tuple[OpKind, ...]
    integer_ops: int
    float_ops: int
    tail_ops: int
    """Those of the float ops from which nothing leads back to integers: the end of a file that began in integers."""
    border_ops: int
    """Ops that only quantize or dequantize, counted on neither side; in TFLite those at float inputs and outputs."""
    transposes: int
    needs: str = ""
    """What runs the file: version of the runtime or operating system. Empty where it is not known for some op."""
    labels: int = 0
    """Labels that belong to no tensor in particular."""
    metadata: tuple[str, ...] = ()
    """Names of the entries."""
    details: dict[str, str] = {}
    """What only this format has."""


@dataclass(frozen=True)
class Step:
    """An op by what it reads and gives, constants left out. `floats`: those of its tensors that hold floats."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    floats: frozenset[str]


def count_kinds(steps: Sequence[Step], on_floats: Set[int]) -> tuple[OpKind, ...]:
    """The most frequent first. `on_floats` holds indices of steps."""
    counts = Counter(step.kind for step in steps)
    floats = Counter(steps[index].kind for index in on_floats)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(OpKind(op=op, count=count, floats=floats[op]) for op, count in ordered)


def outside_pairs(
    steps: Sequence[Step], results: Set[str], quantize: Set[str], dequantize: Set[str], joining: Set[str]
) -> set[int]:
    """Indices of the steps that work on floats, in a format where pairs around a float op make it an integer one.

    Steps that hand floats to each other form an island. It is integer where all its floats come from a `dequantize` and
    go to a `quantize`, and one step at most computes: the others are `joining`, activations and movements of elements.
    `results` are the names of the file's outputs.
    """
    makers = {name: index for index, step in enumerate(steps) for name in step.outputs}
    read = {name for step in steps for name in step.inputs}
    islands: dict[int, set[int]] = {}
    open_ended: set[int] = set()
    for index, step in enumerate(steps):
        if step.kind in quantize | dequantize or not step.floats:
            continue
        given = [makers.get(name) for name in step.floats.intersection(step.inputs)]
        joined = [islands[maker] for maker in given if maker in islands]
        island = max(joined, key=len, default=set())
        for other in joined:
            if other is not island:
                island |= other
                islands.update(dict.fromkeys(other, island))
        island.add(index)
        islands[index] = island
        if any(maker is None or (maker not in islands and steps[maker].kind not in dequantize) for maker in given):
            open_ended.add(index)
        if any(name in results or name not in read for name in step.floats.intersection(step.outputs)):
            open_ended.add(index)
    distinct = {id(island): island for island in islands.values()}.values()
    wrong = (i for i in distinct if i & open_ended or sum(steps[member].kind not in joining for member in i) > 1)
    return set().union(*wrong)


def tail(steps: Sequence[tuple[Iterable[object], Iterable[object]]], floats: Set[int], makers: Set[int]) -> int:
    """How many of the steps (inputs, outputs) in `floats` lead to none of `makers`, those that make codes."""
    leads_back: set[object] = set()
    count = 0
    for index, (inputs, outputs) in reversed(list(enumerate(steps))):
        if index in makers or leads_back.intersection(outputs):
            leads_back.update(inputs)
        elif index in floats:
            count += 1
    return count


def tail_behind_pairs(steps: Sequence[Step], floats: Set[int], quantize: Set[str]) -> int:
    """`tail` in a format of pairs; 0 for a file without any."""
    makers = {index for index, step in enumerate(steps) if step.kind in quantize}
    return tail([(step.inputs, step.outputs) for step in steps], floats, makers) if makers else 0
