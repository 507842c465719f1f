"""A Linux board to test against: a genuine sshd on loopback, with its own users, keys and folders."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from devices.double import ROOT, Double, found, furnish, hold, libraries, namespace, started

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
SetEnv PATH={folder}/bin:{path} TMPDIR={folder}/tmp PYTHONPATH={folder}/site DOUBLE={folder}
"""
CLIENT = """\
Host *
  IdentityFile {folder}/user_key
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile /dev/null
"""
USER = "root" if ROOT else Path.home().owner()


@contextmanager
def board(folder: Path, *, kilobytes: int = 0, path: str = "/usr/bin:/bin") -> Iterator[Double]:
    """The sshd, with a `ssh` that knows it first on this process's PATH.

    `kilobytes`: of a disk of its own for the folders. `path`: the board's PATH, after its own programs.
    """
    sshd, keygen, ssh = found("sshd"), found("ssh-keygen"), found("ssh")
    furnish(folder)
    for key in ("host_key", "user_key"):
        making = ["env", libraries(), keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)]
        subprocess.run(making, check=True)
    shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {(folder / 'host_key.pub').read_text()}")
    (folder / "sshd_config").write_text(CONFIG.format(port=port, folder=folder, path=path))
    (folder / "client" / "config").write_text(CLIENT.format(folder=folder))
    (folder / "client" / "ssh").write_text(f'#!/bin/sh\nexec env {libraries()} {ssh} -F {folder}/client/config "$@"\n')
    (folder / "client" / "ssh").chmod(0o755)
    (folder / "passwd").write_text(f"root:x:0:0::{folder}:/bin/sh\nsshd:x:65534:65534::/run/sshd:/usr/sbin/nologin\n")
    start = f"env {libraries()} {sshd} -D -e -f {folder}/sshd_config & wait; exec sleep infinity"
    command = ["sh", "-c", start]
    if ROOT:  # sshd wants an account and a folder for its unprivileged half; the machine need not have them
        disk = f"mount -t tmpfs -o size={kilobytes}k none {folder}/tmp && " if kilobytes else ""
        mounts = f"mount --bind {folder}/passwd /etc/passwd && mount -t tmpfs none /run && mkdir /run/sshd && {disk}"
        command = [*namespace("mount"), "sh", "-c", f"{mounts}{{ {start}; }}"]
    elif kilobytes:
        pytest.skip("a disk of its own needs root")
    double = Double(f"ssh://{USER}@127.0.0.1:{port}", folder, f"{folder}/tmp", "sshd", hold(folder, command))
    double.program("python3", f'exec {sys.executable} "$@"')
    try:
        started(double, lambda: _listens(port))
        trial = [folder / "client" / "ssh", "-p", str(port), "127.0.0.1", "true"]
        if not ROOT and subprocess.run(trial, check=False, capture_output=True).returncode:
            pytest.skip(f"sshd does not let {USER} in: {(folder / 'log').read_text()}")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", f"{folder}/client", prepend=os.pathsep)
            yield double
    finally:
        double.end()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
