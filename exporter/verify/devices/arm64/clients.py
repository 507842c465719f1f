"""apt, dpkg-deb, pip and gcc as they are found on the machine: run to their end, their complaints as one error."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from exporter.errors import RuntimeUnavailable
from exporter.progress import Stages

_FULL = re.compile(r"No space left on device|enough free space|Disk quota exceeded", re.IGNORECASE)
ROOM = "EDGE_EXPORT_CACHE=FOLDER on a disk with room, or make room and run it again: what came is kept"
AGAIN = "again: what came whole is kept"


def found(program: str) -> str:
    """The path of a program. Raises RuntimeUnavailable where there is none."""
    if path := shutil.which(program):
        return path
    raise RuntimeUnavailable(f"{program} is not on this machine", try_="a Debian or Ubuntu system or container")


def client(
    command: Sequence[str], environment: Mapping[str, str], *, stages: Stages, progress: str = "", what: str
) -> None:
    """Run a package client. `progress` matches the lines that tell how far it is: (done[, total])."""
    with tempfile.TemporaryFile("w+") as complaints:
        process = subprocess.Popen(
            command,
            env={**os.environ, "LC_ALL": "C", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
        )
        try:
            for line in process.stdout or ():
                if progress and (at := re.match(progress, line)):
                    stages.download(round(float(at[1])), int(at[2]) if at.re.groups > 1 else 100)
            code = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
        complaints.seek(0)
        said = complaints.read()
    if code:
        raise failed(what, said, code)


def failed(what: str, said: str, code: int) -> RuntimeUnavailable:
    """The error for a client that ended with `code`."""
    if _FULL.search(said):
        return RuntimeUnavailable(what, why="the disk is full", try_=ROOM)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("E:", "ERROR:", "error:"))]
    return RuntimeUnavailable(what, where=(errors or lines or [f"exit code {code}"])[-4:], try_=AGAIN)


@contextmanager
def disk(folder: Path) -> Iterator[None]:
    """Failures of the file system inside end in an error that names the folder."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        why = "the disk is full" if full else f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")
        remedy = ROOM if full else "EDGE_EXPORT_CACHE=FOLDER with a folder that can be written"
        raise RuntimeUnavailable(f"cannot write to {folder}", why=why, try_=remedy) from error
