"""LiteRT's C++ writes to file descriptor 2 without being asked, and offers no switch for it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

NOISE = b"INFO: "
"""How a line starts that says only that all went well (`INFO: Created TensorFlow Lite XNNPACK delegate for CPU.`)."""


@contextmanager
def without_info() -> Iterator[None]:
    """Drop the INFO lines that reach file descriptor 2 inside the block; everything else follows when it ends."""
    try:
        terminal = os.dup(2)
    except OSError:  # closed, as under some daemons: nothing can be printed anyway
        yield
        return
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            caught.seek(0)
            if kept := b"".join(line for line in caught if not line.startswith(NOISE)):
                os.write(2, kept)
