"""How every refusal must look: one message (what, where, why, try), its exit code, and nothing left behind."""

from __future__ import annotations

from pathlib import Path

from command import Done

FAMILIES = {
    2: "usage",
    3: "data",
    4: "unsupported",
    5: "accuracy gate",
    6: "latency or size gate",
    7: "device or runtime",
}
SCRATCH = {"__pycache__"}


def names(folder: Path) -> set[str]:
    """What lies in a folder, hidden things too; Python's own cache aside."""
    return {path.name for path in folder.iterdir()} - SCRATCH


def refused(done: Done, code: int, *said: str) -> list[str]:
    """The lines of the one message, which must hold every text of `said`."""
    assert done.code == code, f"exit {done.code}\n{done.out}\n{done.err}"
    lines = done.err.strip().splitlines()
    assert sum(line.startswith("error: ") for line in lines) == 1, done.err
    assert lines[0].startswith("error: "), done.err
    assert lines[-1] == f"exit {code} ({FAMILIES[code]})"
    for text in said:
        assert text in done.err, f"no {text!r} in\n{done.err}"
    return lines
