"""`edge-export setup arm64`: emulator, userland and runtimes into the cache, ending in an import on aarch64.

Every step leaves a folder that is whole or not there, so that a setup that broke off goes on where it was.
"""

from __future__ import annotations

import fcntl
import json
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from exporter.build.download import digest_of
from exporter.errors import RuntimeUnavailable
from exporter.progress import Stages
from exporter.verify.devices.arm64 import emulator, packages, place, plugin, wheels
from exporter.verify.devices.arm64.clients import ROOM, disk
from exporter.verify.devices.arm64.cores import CORES, DEFAULT, write_prefix
from exporter.verify.devices.arm64.place import Package, Setup, home

NEEDED = 700_000_000
"""Bytes while it works; about half of them stay."""
IMPORTS = {wheels.LITERT: ("ai_edge_litert.interpreter", "onnxruntime"), wheels.OLDEST: ("tflite_runtime.interpreter",)}
_IMPORT = """
import importlib, json, platform, sys
from importlib.metadata import version
for module in sys.argv[2:]:
    importlib.import_module(module)
print(json.dumps([platform.machine(), {name: version(name) for name in sys.argv[1].split(",")}]))
"""


def set_up(stages: Stages) -> Setup:
    """Fetch what is missing and try it. Raises RuntimeUnavailable, saying what of the machine is to blame."""
    if (system := (platform.system(), platform.machine())) != ("Linux", "x86_64"):
        raise RuntimeUnavailable(
            f"the arm64 emulator runs on Linux x86_64, not on {' '.join(system)}",
            try_="--on local, --on ssh://USER@HOST",
        )
    with disk(home()), _alone():
        before = _before()
        place.write_setup(None)
        debs = _debs(stages)
        files = _wheels(stages)
        with stages.stage("unpack"):
            _unpack(debs, files, stages)
        with stages.stage("check"):
            runtimes = {name: number for site in wheels.sites() for name, number in _import(site).items()}
        fetched = {file.name: _package(file) for file in (*debs, *(file for of in files.values() for file in of))}
        version = emulator.version(home())
        with stages.stage("counting"):
            not_counting = _counting(version)
        setup = Setup(
            emulator=version,
            not_counting=not_counting,
            runtimes=runtimes,
            packages=tuple(sorted({**before, **fetched}.values(), key=lambda package: package.name)),
        )
        place.write_setup(setup)
        for scratch in ("apt", "wheels"):
            shutil.rmtree(home() / scratch, ignore_errors=True)
    return setup


@contextmanager
def _alone() -> Iterator[None]:
    """One setup at a time: another waits, and then finds everything done."""
    home().mkdir(parents=True, exist_ok=True)
    with (home() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _debs(stages: Stages) -> list[Path]:
    """Debian's packages, where something is to be made of them."""
    if all(place.made(home() / name, _source(architecture)) for name, architecture in _UNPACKED.items()):
        return []
    _room()
    with stages.stage("packages"):
        debs = packages.fetch_debs(home() / "apt", stages)
    stages.say(f"{'':<9} {len(debs)} of Debian {packages.SUITE}, {_megabytes(debs)} MB")
    return debs


def _wheels(stages: Stages) -> dict[str, list[Path]]:
    """Wheels for each site that is not made of them yet."""
    wanted = {
        name: needs
        for name, needs in wheels.sites().items()
        if not place.made(home() / place.SITES / name, " ".join(needs))
    }
    if not wanted:
        return {}
    _room()
    with stages.stage("wheels"):
        files = {name: wheels.fetch_wheels(needs, home() / "wheels", stages) for name, needs in wanted.items()}
    every = [file for of in files.values() for file in of]
    needs = [need for of in wanted.values() for need in of]
    stages.say(f"{'':<9} {len(every)} for aarch64, {_megabytes(every)} MB: {', '.join(needs)}")
    return files


def _unpack(debs: list[Path], files: dict[str, list[Path]], stages: Stages) -> None:
    here = home()
    if debs:
        place.make(here / place.EMULATOR, _source(packages.HOST), partial(packages.unpack_emulator, debs))
        place.make(here / place.USERLAND, _source(packages.GUEST), partial(packages.unpack, debs, packages.GUEST))
    for name, of in files.items():
        fill = partial(wheels.unpack_wheels, of, stages)
        place.make(here / place.SITES / name, " ".join(wheels.sites()[name]), fill)
    for name, core in CORES.items():
        place.make(here / place.CORES / name, repr(core), partial(write_prefix, core, f"../../{place.USERLAND}"))


def _import(site: str) -> dict[str, str]:
    """The versions of a site's runtimes, told by a Python on aarch64 that has imported them."""
    runtimes = [wheels.LITERT, wheels.ONNX] if site == wheels.LITERT else [site]
    command = emulator.emulated(home(), DEFAULT, "-c", _IMPORT, ",".join(runtimes), *IMPORTS[site])
    what, again = (
        f"{' and '.join(runtimes)} cannot be imported under the emulator",
        f"rm -r {home()}, then {place.COMMAND}",
    )
    try:
        done = subprocess.run(
            command, env=emulator.environment(home(), site), capture_output=True, text=True, check=False
        )
    except OSError as error:  # somebody took a part away
        raise RuntimeUnavailable(what, why=f"{error.strerror}: {error.filename}", try_=again) from error
    if done.returncode == 0:
        machine, versions = json.loads(done.stdout.splitlines()[-1])
        if machine == "aarch64":
            found: dict[str, str] = versions
            return found
    said = [line for line in done.stderr.splitlines() if line.strip()]
    raise RuntimeUnavailable(what, where=[f"exit code {done.returncode}", *said[-3:]], try_=again)


def _counting(version: str) -> str:
    """Why the plugin is not there; empty when it has counted something."""
    folder = (home() / place.PLUGIN).parent
    try:
        place.make(folder, plugin.SOURCE.read_text(), partial(plugin.build, version))
        with tempfile.TemporaryDirectory() as scratch:
            plugin.try_out(home(), DEFAULT, Path(scratch))
    except plugin.NotBuilt as error:
        return str(error)
    return ""


def _before() -> dict[str, Package]:
    """What an earlier setup had fetched."""
    try:
        return {package.name: package for package in place.read_setup().packages}
    except RuntimeUnavailable:
        return {}


def _room() -> None:
    free = shutil.disk_usage(home()).free
    if free < NEEDED - place.size(home()):
        raise RuntimeUnavailable(
            f"the arm64 setup needs {NEEDED / 1e6:.0f} MB in {home()}", why=f"{free / 1e6:.0f} MB are free", try_=ROOM
        )


_UNPACKED = {place.EMULATOR: packages.HOST, place.USERLAND: packages.GUEST}


def _source(architecture: str) -> str:
    return f"{packages.SUITE} {architecture}: {' '.join(packages.WANTED[architecture])}"


def _package(file: Path) -> Package:
    return Package(name=file.name, size=file.stat().st_size, sha256=digest_of(file))


def _megabytes(files: list[Path]) -> str:
    return f"{sum(file.stat().st_size for file in files) / 1e6:.1f}"
