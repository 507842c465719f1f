"""What went wrong, where, why, and what to try: one formatter, one exit code per family (DESIGN.md §5, §8)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class ExportError(Exception):
    """A failure that the user can act on. Subclasses fix the family and the exit code."""

    exit_code = 1
    family = "internal"

    def __init__(
        self,
        what: str,
        *,
        where: str | Sequence[str] = (),
        why: str = "",
        try_: str | Sequence[str] = (),
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = (where,) if isinstance(where, str) else tuple(where)
        self.why = why
        self.try_ = (try_,) if isinstance(try_, str) else tuple(try_)

    def __str__(self) -> str:
        """Several lines: the error, its places, `why`, `try`, and the exit code."""
        lines = [f"error: {self.what}", *(f"  {place}" for place in self.where)]
        if self.why:
            lines.append(f"  why   {self.why}")
        lines += [f"  try   {step}" for step in self.try_]
        lines.append(f"exit {self.exit_code} ({self.family})")
        return "\n".join(lines)


class UsageError(ExportError):
    """Wrong command line, recipe or Python arguments."""

    exit_code = 2
    family = "usage"


class DataError(ExportError):
    """Missing or unreadable weights, images, arrays or artifacts."""

    exit_code = 3
    family = "data"


class UnsupportedError(ExportError):
    """The model holds something that no stage or target can express."""

    exit_code = 4
    family = "unsupported"


class AccuracyError(ExportError):
    """A numeric or task-metric gate failed."""

    exit_code = 5
    family = "accuracy gate"


class BudgetError(ExportError):
    """A latency or size gate failed."""

    exit_code = 6
    family = "latency or size gate"


class RuntimeUnavailable(ExportError):
    """A device or runtime is absent or went away."""

    exit_code = 7
    family = "device or runtime"


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean …?` for a mistyped word, or an empty string when nothing is near."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else ""
