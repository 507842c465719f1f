"""A board to test against: a genuine sshd on loopback, its users, keys and folders its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

DOUBLES = Path(os.environ.get("EDGE_EXPORT_DOUBLES", "/nonexistent"))
"""Where tests/devices/fetch.sh unpacked sshd, adbd and adb."""
CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
SetEnv PATH={folder}/bin:{path} TMPDIR={folder}/tmp PYTHONPATH={folder}/site
"""
CLIENT = """\
Host *
  IdentityFile {folder}/user_key
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile /dev/null
"""


@dataclass
class Board:
    """`tmp` is where folders are made on the board, `bin` leads its PATH, `site` its Python's."""

    folder: Path
    port: int
    server: subprocess.Popen[bytes]

    @property
    def name(self) -> str:
        return f"ssh://{USER}@127.0.0.1:{self.port}"

    @property
    def tmp(self) -> Path:
        """As seen from here, mounted in the board's own namespace or not."""
        return Path(f"/proc/{self.server.pid}/root/{self.folder}/tmp")

    @property
    def left(self) -> list[str]:
        """What is on the board, once what removes it had the time."""
        deadline = time.monotonic() + 10
        while (found := sorted(path.name for path in self.tmp.iterdir())) and time.monotonic() < deadline:
            time.sleep(0.05)
        return found

    def program(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def module(self, name: str, text: str) -> None:
        path = self.folder / "site" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def running(self) -> bool:
        """Whether a runner is at work on the board."""
        return any("runner.py" in _said(pid, "cmdline") for pid in self._sessions())

    def at_work(self) -> None:
        """Wait until the runner has written every output and times the model."""
        deadline = time.monotonic() + 60
        while not list(self.tmp.glob("edge-export-*/output_1_0.npy")):
            assert time.monotonic() < deadline, "the runner did not start"
            time.sleep(0.05)
        assert self.running()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to every sshd of the board, and to nothing else on it."""
        for pid in _family(self.server.pid):
            if _said(pid, "comm").startswith("sshd"):
                os.kill(pid, number)

    def end(self) -> None:
        """Nothing of the board is left."""
        for pid in {*_family(self.server.pid), *self._sessions(), self.server.pid}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.server.wait()

    def _sessions(self) -> list[int]:
        """All that sshd started, which outlives it: known by the environment that it gave them."""
        mark = f"TMPDIR={self.folder}/tmp"
        return [pid for pid in _processes() if mark in _said(pid, "environ").split("\0")]


USER = "root" if os.geteuid() == 0 else Path.home().owner()


@contextmanager
def board(folder: Path, *, kilobytes: int = 0, path: str = "/usr/bin:/bin") -> Iterator[Board]:
    """The sshd, with a `ssh` that knows it first on this process's PATH.

    `kilobytes`: of a disk of its own for `tmp`. `path`: the board's PATH, after its own programs.
    """
    sshd = program("sshd")
    root = os.geteuid() == 0
    for name in ("bin", "tmp", "site", "client"):
        (folder / name).mkdir()
    for key in ("host_key", "user_key"):
        keygen = [program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", folder / key]
        subprocess.run(keygen, check=True, env=environment())
    shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    host = (folder / "host_key.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host}")
    (folder / "sshd_config").write_text(CONFIG.format(port=port, folder=folder, path=path))
    (folder / "client" / "config").write_text(CLIENT.format(folder=folder))
    libraries = f"LD_LIBRARY_PATH={environment()['LD_LIBRARY_PATH']}"
    (folder / "client" / "ssh").write_text(
        f'#!/bin/sh\nexec env {libraries} {program("ssh")} -F {folder}/client/config "$@"\n'
    )
    (folder / "client" / "ssh").chmod(0o755)
    (folder / "passwd").write_text(f"root:x:0:0::{folder}:/bin/sh\nsshd:x:65534:65534::/run/sshd:/usr/sbin/nologin\n")
    start = f"exec {sshd} -D -e -f {folder}/sshd_config"
    if root and subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no namespaces on this machine: sshd would want an account of it")
    if root:  # sshd wants an account and a folder for its unprivileged half; the machine need not have them
        disk = f"mount -t tmpfs -o size={kilobytes}k none {folder}/tmp && " if kilobytes else ""
        mounts = f"mount --bind {folder}/passwd /etc/passwd && mount -t tmpfs none /run && mkdir /run/sshd && {disk}"
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", mounts + start]
    elif kilobytes:
        pytest.skip("a disk of its own needs root")
    else:
        command = ["sh", "-c", start]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log, stdout=log, env=environment())
    found = Board(folder, port, server)
    found.program("python3", f'exec {sys.executable} "$@"')
    try:
        _wait(found)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", f"{folder}/client", prepend=os.pathsep)
            yield found
    finally:
        found.end()


def program(name: str) -> str:
    """Of this machine, or unpacked."""
    path = os.pathsep.join(
        [os.environ.get("PATH", ""), "/usr/sbin", *(str(DOUBLES / p) for p in ("usr/bin", "usr/sbin"))]
    )
    found = shutil.which(name, path=path)
    if not found:
        pytest.skip(f"no {name} on this machine: tests/devices/fetch.sh FOLDER, then EDGE_EXPORT_DOUBLES=FOLDER")
    return found


def environment() -> dict[str, str]:
    """For the unpacked programs: their libraries lie beside them."""
    folders = [
        str(path) for path in (*DOUBLES.glob("usr/lib/*-linux-gnu"), *DOUBLES.glob("usr/lib/*-linux-gnu/android"))
    ]
    return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(folders)}


def _wait(found: Board) -> None:
    while found.server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", found.port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    pytest.fail(f"sshd does not start: {(found.folder / 'log').read_text()}")


def _family(pid: int) -> list[int]:
    """All that descend from a process."""
    parents = {child: _said(child, "stat").rpartition(")")[2].split()[1:2] for child in _processes()}
    found, todo = [], [pid]
    while todo:
        parent = str(todo.pop())
        following = [child for child, words in parents.items() if words == [parent]]
        found += following
        todo += following
    return found


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def _said(pid: int, name: str) -> str:
    """A file of /proc; empty when the process has ended."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except OSError:
        return ""
