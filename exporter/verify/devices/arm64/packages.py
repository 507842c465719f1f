"""Emulator and userland out of Debian's packages: apt resolves, fetches and checks them, dpkg-deb unpacks them.

apt runs on a configuration of its own: nothing of the host's package state is read or written, and no root is needed.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from exporter.errors import RuntimeUnavailable
from exporter.progress import Stages
from exporter.verify.devices.arm64.clients import client, failed, found

SUITE = "bookworm"
"""Its emulator, 7.2, has the plugin interface that counting is written for, and its Python, 3.11, the wheels."""
HOST, GUEST = "amd64", "arm64"
WANTED = {HOST: ("qemu-user",), GUEST: ("python3.11-minimal", "libpython3.11-stdlib", "libstdc++6")}
MIRROR = "EDGE_EXPORT_DEBIAN"
"""Environment variable with the address of a mirror, for machines whose apt has none of that suite."""
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
QEMU = "usr/bin/qemu-aarch64"


def fetch_debs(folder: Path, stages: Stages) -> list[Path]:
    """Download what is wanted with all that it needs, and unless it is there already. -> the .deb files."""
    apt, *_ = (found(program) for program in ("apt-get", "apt-config", "dpkg-deb", "tar"))
    environment = {"APT_CONFIG": str(_configuration(folder))}
    client([apt, "-qq", "update", "--error-on=any"], environment, stages=stages, what="apt cannot read Debian's index")
    client(
        [
            *(apt, "-qq", "-y", "-o", "APT::Status-Fd=1", "install", "--download-only", "--no-install-recommends"),
            *(f"{name}:{architecture}" for architecture, names in WANTED.items() for name in names),
        ],
        environment,
        stages=stages,
        progress=r"dlstatus:[^:]*:([\d.]+):",
        what="apt cannot download Debian's packages",
    )
    return sorted((folder / "archives").glob("*.deb"))


def unpack(debs: list[Path], architecture: str, folder: Path) -> None:
    """The files of one architecture's packages, without documentation."""
    opener, tar = found("dpkg-deb"), found("tar")
    for deb in debs:
        if not deb.name.endswith(f"_{architecture}.deb"):
            continue
        with subprocess.Popen(
            [opener, "--fsys-tarfile", deb], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as source:
            command = [tar, "--extract", "--no-same-owner", "--exclude=./usr/share", "--directory", str(folder)]
            done = subprocess.run(command, stdin=source.stdout, capture_output=True, text=True, check=False)
            said = done.stderr + (source.communicate()[1] or b"").decode(errors="replace")
        if code := done.returncode or source.returncode:
            raise failed(f"cannot unpack {deb.name}", said, code)


def unpack_emulator(debs: list[Path], folder: Path) -> None:
    """The one emulator of the package's thirty, with the libraries that it needs, libc included."""
    unpack(debs, HOST, folder)
    for program in (folder / QEMU).parent.iterdir():
        if program.name != Path(QEMU).name:
            program.unlink()


def _configuration(folder: Path) -> Path:
    """A configuration of apt that stays in `folder`. Mirror, proxy and certificates are the host's."""
    if not KEYRING.is_file():
        raise RuntimeUnavailable(
            "Debian's packages cannot be checked",
            why=f"{KEYRING} is missing",
            try_="apt install debian-archive-keyring",
        )
    for name in ("lists/partial", "archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "status").touch()
    sources, configuration = folder / "sources.list", folder / "apt.conf"
    sources.write_text(f"deb [arch={HOST},{GUEST} signed-by={KEYRING}] {mirror()} {SUITE} main\n")
    configuration.write_text(
        _host_settings()
        + f'Dir::State "{folder}";\nDir::State::status "{folder}/status";\nDir::Cache "{folder}";\n'
        + 'Dir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\n'
        + f'Dir::Etc::sourcelist "{sources}";\n'
        + "".join(f'Dir::Etc::{name} "/dev/null";\n' for name in ("main", "parts", "sourceparts"))
        + "".join(f'Dir::Etc::{name} "/dev/null";\n' for name in ("preferences", "preferencesparts"))
        + f'APT::Architecture "{HOST}";\nAPT::Architectures {{ "{HOST}"; "{GUEST}"; }};\n'
        + 'APT::Sandbox::User "root";\nAcquire::Languages "none";\nAcquire::GzipIndexes "true";\n'
    )
    return configuration


def mirror() -> str:
    """Address of the mirror that is named, else of the one from which this machine's apt gets the same suite.

    Raises RuntimeUnavailable where there is neither.
    """
    if named := os.environ.get(MIRROR):
        return named
    rows = _told("apt-get", "indextargets", "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)")
    known = (row.split() for row in rows)
    own = next((row[2] for row in known if row[:2] == [SUITE, "main"] and row[2].rstrip("/").endswith("/debian")), "")
    if not own:
        raise RuntimeUnavailable(
            f"this machine's apt knows no mirror of Debian {SUITE}",
            try_=[f"{MIRROR}=http://HOST/debian/ edge-export setup arm64", f"or a container of Debian {SUITE}"],
        )
    return own


def _host_settings() -> str:
    """How this machine reaches mirrors."""
    rows = _told("apt-config", "dump", "--no-empty", "--format", '%F "%v";%n', "Acquire")
    return "".join(f"{row}\n" for row in rows if not row.startswith(("Acquire::IndexTargets", "Acquire::Languages")))


def _told(*command: str) -> list[str]:
    done = subprocess.run([found(command[0]), *command[1:]], capture_output=True, text=True, check=False)
    return done.stdout.splitlines()
