"""A picture of every layer's own and inherited error in execution order: an SVG that needs no network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from exporter.report import figures
from exporter.verify.results import Diagnosis, LayerRow

_TEMPLATE = Path(__file__).with_name("layers.svg.j2")
_WIDTH, _PLOT, _LEFT, _TOP = 960, 240, 36, 40
_LABELLED, _LINE = 6, 17
_STEP = 10
"""dB between lines of the grid."""


@dataclass(frozen=True)
class _Mark:
    """One layer: where its dots are; `rank` where it is labelled, at the height `raised`."""

    x: float
    own: float | None
    inherited: float | None
    rank: int
    raised: float
    told: str


def layers_svg(found: Diagnosis) -> str:
    """Own error as dots, inherited error as rings; the layers of most effect on the outputs are red and named."""
    shown = [row for row in found.layers if row.own_snr is not None or row.effect > 0]
    worst = {row.value: rank for rank, row in enumerate((r for r in shown[:_LABELLED] if r.effect > 0), 1)}
    known = [snr for row in shown for snr in (row.own_snr, row.inherited_snr) if snr is not None]
    low = _STEP * math.floor(min(known, default=0.0) / _STEP)
    high = max(low + _STEP, _STEP * math.ceil(max(known, default=0.0) / _STEP))
    places = {row.value: i for i, row in enumerate(sorted(shown, key=lambda row: row.index))}

    def height(snr: float | None) -> float | None:
        return None if snr is None else round(_TOP + _PLOT * (high - snr) / (high - low), 1)

    def mark(row: LayerRow) -> _Mark:
        x = _LEFT + (_WIDTH - _LEFT) * (places[row.value] + 0.5) / len(shown)
        rank = worst.get(row.value, 0)
        told = f"{row.op} {row.place}: own {figures.decibels(row.own_snr)}, effect {100 * row.effect:.1f} %"
        return _Mark(
            round(x, 1), height(row.own_snr), height(row.inherited_snr), rank, _TOP - 4 - 12 * (rank % 2), told
        )

    legend = [f"{worst[r.value]}  {r.place}  {r.op}  {100 * r.effect:.1f} %" for r in shown if r.value in worst]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        width=_WIDTH,
        height=_TOP + _PLOT + 40 + _LINE * len(legend),
        left=_LEFT,
        right=_WIDTH,
        top=_TOP,
        bottom=_TOP + _PLOT,
        title="Own and inherited error of every layer",
        ticks=[(height(snr), f"{snr:g}") for snr in range(low, high + 1, _STEP)],
        marks=[mark(row) for row in reversed(shown)],
        legend=legend,
    )
