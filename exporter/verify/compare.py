"""Two bundles of one model side by side, quantity by quantity: what became better, and what worse than it may."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, computed_field

from exporter.errors import AccuracyError, BudgetError, DataError
from exporter.verify.results import CalibrationFacts, Gate, Report
from exporter.verify.sides import Key, Side, figures_of

FINE = 90.0
"""dB: an SNR above it tells of the order of float additions alone."""
Verdict = Literal["better", "same", "worse", ""]


@dataclass(frozen=True)
class Kind:
    """A quantity: whether more of it is better or worse (empty: neither), and how far it may become worse: by
    `relative` or `absolute`, whichever is more.

    Two figures of at least `enough` are the same.
    """

    unit: Literal["dB", "share", "LSB", "MB", "count", "ms", "points"]
    more: Literal["better", "worse", ""] = "worse"
    family: str = "accuracy"
    relative: float = 0.0
    absolute: float = 0.0
    enough: float = math.inf

    def verdict(self, old: float, new: float) -> Verdict:
        """Of a change from `old` to `new`."""
        if not self.more:
            return ""
        if old == new or min(old, new) >= self.enough:
            return "same"
        loss = self.loss(old, new)
        if math.isnan(loss) or loss > max(self.absolute, self.relative * abs(old)):
            return "worse"
        return "better" if loss < 0 else "same"

    def loss(self, old: float, new: float) -> float:
        """How much worse `new` is; negative where it is better."""
        return 0.0 if old == new else old - new if self.more == "better" else new - old


KINDS = {
    "size": Kind("MB", family="size", relative=0.01),
    "ops": Kind("count", more=""),
    "transposes": Kind("count", family="latency"),
    "partitions": Kind("count", family="latency"),
    "integer ops": Kind("share", more="better"),
    "float SNR": Kind("dB", more="better", absolute=1.0, enough=FINE),
    "int8 SNR": Kind("dB", more="better", absolute=1.0),
    "codes equal to the interpreter's": Kind("share", more="better", absolute=5e-4),
    "difference from the interpreter": Kind("LSB"),
    "task metric": Kind("points", more="better", absolute=0.5),
    "codes equal to this machine's": Kind("share", more="better", absolute=5e-4),
    "difference from this machine": Kind("LSB"),
    "SNR against this machine": Kind("dB", more="better", absolute=1.0, enough=FINE),
    "fastest run": Kind("ms", family="latency", relative=0.2, absolute=0.05),
    "instructions": Kind("count", family="instructions", relative=0.001),
    "bytes loaded": Kind("count", family="instructions", relative=0.001),
}
"""Of times the fastest is compared, which other work on the machine disturbs least."""


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True)


class Change(_Row):
    """One quantity in both; of several outputs, that which lost most, named where it lost. None: not measured there.

    SNR in dB, sizes in bytes, shares of one, times in milliseconds.
    """

    place: str
    kind: str
    item: str = ""
    old: float | None = None
    new: float | None = None

    @property
    def label(self) -> str:
        """Where and what."""
        return f"{self.place}: {self.kind} {self.item}".rstrip()

    @computed_field  # type: ignore[prop-decorator]
    @property
    def verdict(self) -> Verdict:
        """Empty where nothing is judged: figures of one side alone, and those that are neither good nor bad."""
        return "" if self.old is None or self.new is None else KINDS[self.kind].verdict(self.old, self.new)


class Comparison(_Row):
    """Two bundles, or what verify said of them."""

    model: str
    old: str
    new: str
    differing: dict[str, tuple[str, str]] = {}
    """Facts that explain differences: weights, versions, processor."""
    changes: tuple[Change, ...]
    broken: tuple[Gate, ...] = ()
    """Gates that fail in the new one and did not in the old one."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def passed(self) -> bool:
        """Nothing is worse than it may be."""
        return not self.broken and all(change.verdict != "worse" for change in self.changes)

    def raise_on_regression(self) -> None:
        """AccuracyError or BudgetError naming all that became worse; accuracy decides when both kinds did."""
        worse = [change for change in self.changes if change.verdict == "worse"]
        families = {KINDS[change.kind].family for change in worse} | {gate.family for gate in self.broken}
        if not families:
            return
        kind = AccuracyError if "accuracy" in families else BudgetError
        raise kind(
            f"{self.new} is worse than {self.old} in {len(worse) + len(self.broken)} places",
            where=[
                *(
                    " ".join(p for p in (f"{c.place}:", c.kind, c.item) if p) + f"  {c.old:.6g} -> {c.new:.6g}"
                    for c in worse
                ),
                *(f"{gate.label}  {gate.value}, must be {gate.limit}" for gate in self.broken),
            ],
            try_="the table says what each may be",
        )


def compare(old: Side, new: Side) -> Comparison:
    """Raises DataError for bundles of different models."""
    if different := [f"{n}  {a}, there {b}" for n, a, b in _facts(old.report, new.report, IDENTITY) if a != b]:
        raise DataError(f"{old.name} and {new.name} are of different models", where=different, try_="two of one model")
    before, after = (figures_of(side) for side in (old, new))
    failed = {gate.label for gate in old.gates if not gate.passed}
    return Comparison(
        model=new.report.model,
        old=old.name,
        new=new.name,
        differing={name: (a, b) for name, a, b in _facts(old.report, new.report, EXPLAINS) if a != b},
        changes=tuple(_change(key, before.get(key, {}), after.get(key, {})) for key in _in_order(before, after)),
        broken=tuple(gate for gate in new.gates if not gate.passed and gate.label not in failed),
    )


IDENTITY = ("model", "input_shapes", "output_shapes")
EXPLAINS = ("precision", "io", "weights", "processor", "versions", "calibration")


def _facts(old: Report, new: Report, names: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    for name in names:
        a, b = getattr(old, name), getattr(new, name)
        if isinstance(a, dict) and isinstance(b, dict):
            for key in dict.fromkeys([*a, *b]):
                yield f"{name}: {key}", str(a.get(key, "absent")), str(b.get(key, "absent"))
        else:
            yield name, _words(a), _words(b)


def _words(fact: object) -> str:
    """Of a calibration its source, method and digest are enough."""
    if isinstance(fact, CalibrationFacts):
        return f"{fact.source}, {fact.method}, sha256 {fact.sha256[:12]}"
    return str(fact)


def _in_order(before: Mapping[Key, object], after: Mapping[Key, object]) -> list[Key]:
    """Place by place, and inside one as `KINDS` has them."""
    places = list(dict.fromkeys(place for place, _ in (*after, *before)))
    order = list(KINDS)
    return sorted({*before, *after}, key=lambda key: (places.index(key[0]), order.index(key[1])))


def _change(key: Key, old: Mapping[str, float], new: Mapping[str, float]) -> Change:
    place, kind = key
    losses = {item: KINDS[kind].loss(old[item], new[item]) for item in old if item in new}
    item = max(losses, key=lambda item: math.inf if math.isnan(losses[item]) else losses[item], default="")
    item = item or next(iter(new or old))
    named = item if losses.get(item) else ""
    return Change(place=place, kind=kind, item=named, old=old.get(item), new=new.get(item))
