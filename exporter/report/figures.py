"""How a number is written: one format per quantity, the same in every rendering."""

from __future__ import annotations

import math

ABSENT = "–"


def decibels(snr: float | None) -> str:
    """SNR with one decimal; None, no error at all, is `exact`."""
    return "exact" if snr is None else f"{snr:.1f}"


def share(part: float | None) -> str:
    """A share of one as a percentage with four significant digits; below 1 it never reads 100 %."""
    if part is None:
        return ABSENT
    if 0 < part < 1e-4:
        return "< 0.01 %"
    if 0.9999 < part < 1:
        return "99.99 %"
    return f"{100 * part:.4g} %"


def ratio(value: float, reference: float) -> str:
    """`value` per `reference`, three significant digits."""
    return f"{_significant(value / reference)}x" if reference else ABSENT


def megabytes(size: float) -> str:
    """Bytes as MB (10^6 bytes), three significant digits."""
    return _significant(size / 1e6)


def milliseconds(time: float | None) -> str:
    """Three significant digits; a dash where no time was told."""
    return ABSENT if time is None else _significant(time)


def seconds(time: float) -> str:
    """One decimal, two below ten seconds."""
    return f"{time:.1f}" if time >= 10 else f"{time:.2f}"


def error(value: float) -> str:
    """An absolute difference, three significant digits."""
    return "0" if value == 0 else f"{value:#.3g}".rstrip(".")


def count(number: int) -> str:
    """Grouped by thousands."""
    return f"{number:,}"


def large(number: int) -> str:
    """A count in the unit people say it in: `3.88 M`, `2.54 G`."""
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= factor:
            return f"{_significant(number / factor)} {unit}"
    return str(number)


def shapes(tensors: dict[str, tuple[int, ...]]) -> str:
    """`image 1x3x512x512, …`."""
    return ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in tensors.items())


def plural(number: int, noun: str) -> str:
    """`1 gate`, `2 gates`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _significant(value: float) -> str:
    """Three significant digits, never in exponents above 1e-4, whole from 1000 up."""
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"
