"""The real command, one process a run: exit code, signals, working directory and file descriptors are its own.

Starting Python and importing torch takes seconds, so the processes are forked from one that has done both
(multiprocessing's fork server). `spawn` starts one from scratch, as a shell does.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["exporter.cli", "exporter.pipeline", "exporter.report.html", "torch.export._trace"])


@dataclass(frozen=True)
class Done:
    """A finished run. `err` holds every message; nothing in a message may look like a bug of ours."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """All of standard output, which must be one JSON document."""
        return json.loads(self.out)


def edge_export(
    *arguments: object, cwd: Path, file_limit: int | None = None, environment: dict[str, str] | None = None
) -> Done:
    """`edge-export ARGUMENTS` in `cwd`. No file may grow beyond `file_limit` bytes: a disk that is full."""
    words = [str(argument) for argument in arguments]
    streams = cwd.with_name(f"{cwd.name}-streams")
    streams.mkdir(exist_ok=True)
    process = _SERVER.Process(target=_run, args=(words, cwd, streams, file_limit, environment or {}))
    process.start()
    process.join()
    assert process.exitcode is not None
    done = Done(process.exitcode, (streams / "out").read_text(), (streams / "err").read_text())
    assert "Traceback" not in done.err, done.err
    return done


def spawn(*arguments: object, cwd: Path, **options: Any) -> subprocess.Popen[str]:
    """The same, started from scratch, not waited for."""
    command = [sys.executable, "-m", "exporter.cli", *map(str, arguments)]
    return subprocess.Popen(command, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def _run(words: list[str], cwd: Path, streams: Path, file_limit: int | None, environment: dict[str, str]) -> None:
    from exporter.cli import main

    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(streams / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.chdir(cwd)
    os.environ.update({"COLUMNS": "120", **environment})
    sys.argv = ["edge-export", *words]
    if file_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    main(words)
