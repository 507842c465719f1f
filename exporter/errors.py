"""What went wrong, where, why, and what to try: one formatter, one exit code per family (DESIGN.md §5, §8)."""

from __future__ import annotations

import difflib
import sysconfig
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path

_PACKAGE, _PYTHON = str(Path(__file__).resolve().parent), sysconfig.get_path("stdlib")


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
        self.where = _lines(where)
        self.why = why
        self.try_ = _lines(try_)

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


def _lines(text: str | Sequence[str]) -> tuple[str, ...]:
    """One line, or several; empty ones are left out."""
    return tuple(line for line in ((text,) if isinstance(text, str) else text) if line)


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean …?` for a mistyped word, or an empty string when nothing is near."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else ""


def blame(error: BaseException) -> str:
    """`file:line  code` of the user's innermost line in the traceback of `error`; empty where there is none.

    A line of an installed package is named only where no other is left; Python's own and ours never are, but for the
    models of exporter/build.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return _place(error.filename, error.lineno, error.text)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_machinery(frame.filename)]
    own = [frame for frame in frames if "site-packages" not in frame.filename]
    return next((_place(f.filename, f.lineno, f.line) for f in reversed(own or frames)), "")


def _is_machinery(file: str) -> bool:
    ours = file.startswith(_PACKAGE) and not file.startswith(str(Path(_PACKAGE, "build")))
    return ours or file.startswith((_PYTHON, "<")) or "torch" in Path(file).parts


def _place(file: str, line: int | None, code: str | None) -> str:
    """The file as seen from the working directory, where it lies below it."""
    path = Path(file)
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f"{shown}:{line}  {(code or '').strip()}".rstrip()
