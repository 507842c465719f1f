"""A folder on a device that is reached through its POSIX shell: what ssh and adb have in common.

One session, the keeper, makes the folder and holds it: when its input ends, it ends the runner and removes the folder.
Its input ends when the block here does, and just so when this process is killed or the connection is lost.
"""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from exporter.errors import RuntimeUnavailable
from exporter.verify.devices.protocol import Completed

SECONDS = 20
"""For the folder to be removed, and for a lost connection to be noticed: longer than ssh's own ServerAlive."""
KEEPER = """\
umask 077
folder=$(mktemp -d {parent}/edge-export-XXXXXX 2>&1) || {{ echo "refused $folder"; exit 1; }}
end() {{
  [ -f "$folder/pid" ] && kill -9 "$(cat "$folder/pid")" 2>/dev/null
  rm -rf "$folder" || {{ sleep 1; rm -rf "$folder"; }}
}}
trap end EXIT; trap 'exit 1' HUP INT TERM; trap '' PIPE
echo "folder $folder"
cat >/dev/null"""
PROBE = (
    "import sys; sys.exit('Python %d.%d' % sys.version_info[:2]) if sys.version_info < (3, 7) else __import__('numpy')"
)


@dataclass(frozen=True)
class Options:
    """What may follow a device's address: `?python=PATH&cores=4-7`."""

    python: str = ""
    """The interpreter there; searched for where empty."""
    cores: tuple[int, ...] = ()
    """The cores that the runner is kept on; all where empty."""
    benchmark_model: Path | None = None
    """LiteRT's benchmark_model for the device: a file here."""


class Link(Protocol):
    """A way to a device's shell."""

    @property
    def name(self) -> str:
        """Of the device."""
        ...

    @property
    def parent(self) -> str:
        """Shell word for the folder that the fresh one is made in."""
        ...

    @property
    def pythons(self) -> Sequence[str]:
        """Where Python is searched for."""
        ...

    def shell(self, command: str, *, keeper: bool = False) -> list[str]:
        """The command line here that runs a shell command there, its input and output passed through as bytes."""
        ...

    def broken(self, what: str, complaint: str) -> RuntimeUnavailable:
        """The error for a connection that never stood or was lost, with what helps against the complaint."""
        ...

    def push(self, source: Path, folder: str) -> Completed:
        """Copy a file into a folder there."""
        ...

    def pull(self, path: str, place: Path) -> Completed:
        """Copy a file there into a folder here."""
        ...


class Keeper:
    """The session that holds the folder."""

    def __init__(self, link: Link, complaints: IO[bytes]) -> None:
        self._link, self._complaints = link, complaints
        command = link.shell(KEEPER.format(parent=link.parent), keeper=True)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, text=True, errors="replace"
        )

    def folder(self) -> str:
        """The folder that it made. Raises RuntimeUnavailable where there is no connection, or no folder to be had."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline().rstrip()
        answer, _, rest = line.partition(" ")
        if answer == "folder":
            return rest
        if answer == "refused":
            raise RuntimeUnavailable(
                f"no folder can be made on {self._link.name}", why=rest, try_="free space there, and the right to write"
            )
        if line:
            raise RuntimeUnavailable(
                f"the shell on {self._link.name} prints text before it runs a command",
                why=line,
                try_="keep its start-up files (~/.bashrc) silent where no one is at the terminal",
            )
        self.ended(SECONDS)
        raise self._link.broken(f"no connection to {self._link.name}", self._said())

    def ended(self, seconds: float) -> bool:
        """Whether it has ended, or does so within that time."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def check(self, done: Completed) -> Completed:
        """Tells a transfer that failed because the connection ended from one that failed there."""
        if done.code and self.ended(1):
            raise self.lost()
        return done

    def lost(self) -> RuntimeUnavailable:
        """The connection was."""
        return self._link.broken(f"the connection to {self._link.name} was lost", self._said())

    def end(self) -> None:
        """Let it remove the folder."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        if not self.ended(SECONDS):
            self._process.kill()

    def _said(self) -> str:
        self._complaints.seek(0)
        return self._complaints.read().decode(errors="replace")


@dataclass(frozen=True)
class ShellWorkspace:
    """A folder that the keeper holds."""

    link: Link
    folder: str
    options: Options
    keeper: Keeper
    interpreter: str = ""

    def push(self, source: Path) -> None:
        """Copy a file in."""
        done = self.keeper.check(self.link.push(source, self.folder))
        if done.code:
            raise RuntimeUnavailable(
                f"cannot write {source.name} to {self.link.name}",
                why=_complaint(done),
                try_=f"free space there, in {self.folder.rsplit('/', maxsplit=1)[0]}",
            )

    def python(self, script: str, *arguments: str, counted: bool = False) -> Completed:
        """To its end, and not past the end of the connection."""
        return self.run(shlex.join([self.interpreter, script, *arguments]))

    def run(self, command: str) -> Completed:
        """A program in the folder, on the cores asked for."""
        return self.shell(
            f"cd {shlex.quote(self.folder)} && {{ {self.pinned(command)} & echo $! >pid; wait $!; code=$?; rm -f pid; "
            "exit $code; }"
        )

    def pinned(self, command: str) -> str:
        """The command on the cores asked for: taskset takes their mask in hexadecimal, on Linux and on Android."""
        return f"taskset {sum(1 << core for core in self.options.cores):x} {command}" if self.options.cores else command

    def shell(self, command: str) -> Completed:
        """A shell command to its end, which the device tells: adb calls a lost connection a success.

        Raises RuntimeUnavailable when the connection was lost.
        """
        done = call(self.link.shell(f"({command}\n); code=$?; echo; echo ended $code"))
        out, ended, code = done.out.rpartition("\nended ")
        if not ended:
            self.keeper.ended(SECONDS)
            raise self.keeper.lost()
        return Completed(int(code), out, done.err)

    def pull(self, name: str, place: Path) -> None:
        """Copy a file out."""
        done = self.keeper.check(self.link.pull(f"{self.folder}/{name}", place))
        if done.code:
            raise RuntimeUnavailable(f"the runner left no {name} on {self.link.name}", why=last_line(done.err))

    def facts(self) -> dict[str, Any]:
        """Nothing that the runner cannot find."""
        return {}


@contextmanager
def workspace(link: Link, options: Options) -> Iterator[ShellWorkspace]:
    """A fresh folder on the device, gone when the block ends."""
    with tempfile.TemporaryFile() as complaints:
        keeper = Keeper(link, complaints)
        try:
            yield ShellWorkspace(link, keeper.folder(), options, keeper)
        finally:
            keeper.end()


def find_python(there: ShellWorkspace) -> str:
    """The interpreter that the runner is given to; empty where there is none. Raises RuntimeUnavailable for one that
    is too old or has no numpy.
    """
    for candidate in [there.options.python] if there.options.python else there.link.pythons:
        if there.shell(f"command -v {shlex.quote(candidate)}").code:
            continue
        done = there.shell(shlex.join([candidate, "-c", PROBE]))
        if not done.code:
            return candidate
        old = done.err.strip().startswith("Python ")
        raise RuntimeUnavailable(
            f"{candidate} on {there.link.name} {'is too old' if old else 'cannot run the runner'}",
            why=last_line(done.err) or f"it ended with {done.code}",
            try_="Python 3.7 or newer there, with numpy and ai-edge-litert; ?python=PATH names another",
        )
    if there.options.python:
        raise RuntimeUnavailable(f"there is no {there.options.python} on {there.link.name}")
    return ""


def call(argv: Sequence[str], *, stdin: Any = subprocess.DEVNULL, stdout: Any = subprocess.PIPE) -> Completed:
    """A command here, to its end."""
    done = subprocess.run(argv, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, check=False)
    out, err = ((text or b"").decode(errors="replace") for text in (done.stdout, done.stderr))
    return Completed(done.returncode, out, err)


def cores(text: str) -> tuple[int, ...]:
    """`0,4-7` -> (0, 4, 5, 6, 7). Raises ValueError."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        found.update(range(int(first), int(last if dash else first) + 1))
    return tuple(sorted(found))


def _complaint(done: Completed) -> str:
    """adb puts its errors among what it says of its progress."""
    said = done.out + done.err
    return last_line("\n".join(line for line in said.splitlines() if "error" in line)) or last_line(said)


def last_line(text: str) -> str:
    """The last line that says something."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
