"""`ssh://USER@HOST[:PORT]`: a Linux board, through this system's own ssh.

Keys, host keys and jump hosts are those of the user's own ssh configuration; nothing is ever asked at the terminal, and
the key of an unknown host is not accepted in silence.
"""

from __future__ import annotations

import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from exporter.errors import RuntimeUnavailable
from exporter.verify.devices.protocol import Completed
from exporter.verify.devices.shell import Options, ShellWorkspace, call, find_python, last_line, workspace

SETTINGS = {
    "BatchMode": "yes",
    "ConnectTimeout": "10",
    "ServerAliveInterval": "5",  # a host that is silent for 15 s is gone
    "ServerAliveCountMax": "3",
    "ControlPersist": "no",
    "ClearAllForwardings": "yes",
    "RemoteCommand": "none",
    "RequestTTY": "no",
}
TRY = {  # what ssh says -> what helps
    "Host key verification failed": "connect once by hand and check the host's key: {command}",
    "Permission denied": "a key without passphrase, or one in ssh-agent: {command} must work without a question",
    "Connection refused": "sshd must run there, on that port",
    "Could not resolve": "check the name of the host",
    "timed out": "check that the host is on and can be reached from here",
}


@dataclass
class SshDevice:
    """A host, reached as `ssh` on this machine reaches it."""

    name: str
    host: str
    port: int | None = None
    user: str | None = None
    options: Options = field(default_factory=Options)
    emulator, can_count = "", False

    @contextmanager
    def workspace(self) -> Iterator[ShellWorkspace]:
        """A folder in $TMPDIR or /tmp there."""
        if not shutil.which("ssh"):
            raise RuntimeUnavailable("there is no ssh on this machine", try_="apt install openssh-client")
        with (
            tempfile.TemporaryDirectory(prefix="edge-export-") as sockets,
            workspace(_Connection(self, Path(sockets, "socket")), self.options) as there,
        ):
            interpreter = find_python(there)
            if not interpreter:
                raise RuntimeUnavailable(
                    f"there is no python3 on {self.name}",
                    try_="install Python 3.7 or newer there, with numpy and ai-edge-litert; ?python=PATH names it",
                )
            yield replace(there, interpreter=interpreter)


@dataclass(frozen=True)
class _Connection:
    """The keeper's connection, which every further command shares."""

    device: SshDevice
    socket: Path
    parent, pythons = '"${TMPDIR:-/tmp}"', ("python3",)

    @property
    def name(self) -> str:
        return self.device.name

    def shell(self, command: str, *, keeper: bool = False) -> list[str]:
        """Through `sh`, whatever the user's login shell is there."""
        settings = {**SETTINGS, "ControlPath": str(self.socket), "ControlMaster": "yes" if keeper else "no"}
        options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
        return ["ssh", *options, *_address(self.device), "exec sh -c " + shlex.quote(command)]

    def push(self, source: Path, folder: str) -> Completed:
        """Through the shell: neither scp nor an sftp server is needed there."""
        with source.open("rb") as content:
            return call(self.shell(f"cat >{shlex.quote(f'{folder}/{source.name}')}"), stdin=content)

    def pull(self, path: str, place: Path) -> Completed:
        """As `push`."""
        with (place / Path(path).name).open("wb") as content:
            return call(self.shell(f"cat {shlex.quote(path)}"), stdout=content)

    def broken(self, what: str, complaint: str) -> RuntimeUnavailable:
        """With what helps against the commonest complaints of ssh."""
        command = shlex.join(["ssh", *_address(self.device)])
        steps = [step.format(command=command) for said, step in TRY.items() if said in complaint]
        return RuntimeUnavailable(what, why=last_line(complaint) or "ssh did not say", try_=steps)


def _address(device: SshDevice) -> list[str]:
    port = ["-p", str(device.port)] if device.port else []
    user = ["-l", device.user] if device.user else []
    return [*port, *user, device.host]
