"""`--on NAME` -> device."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from exporter.errors import UsageError, nearest
from exporter.verify.devices.adb import AdbDevice
from exporter.verify.devices.local import LocalDevice
from exporter.verify.devices.protocol import Device
from exporter.verify.devices.shell import Options, cores
from exporter.verify.devices.ssh import SshDevice

KINDS = (
    "local",
    "arm64[:CORE][@tflite-runtime]",
    "ssh://[USER@]HOST[:PORT][?python=PATH&cores=0-3]",
    "adb[:SERIAL][?python=PATH&cores=4-7] or [?benchmark_model=FILE]",
)


def device(name: str) -> Device:
    """The device of a name as users write it. Nothing is started yet. Raises UsageError for any other name."""
    address, _, query = name.partition("?")
    kind = re.split("[:@]", address, maxsplit=1)[0]
    if name == "local":
        return LocalDevice()
    if kind == "arm64":
        from exporter.verify.devices.arm64 import Arm64Device  # it needs torch, and rows of reports import this package

        return Arm64Device(name)
    if kind == "ssh":
        return _ssh(name, address, _options(name, query, {"python", "cores"}))
    if kind == "adb" and not address.endswith(":"):
        options = _options(name, query, {"python", "cores", "benchmark_model"})
        return AdbDevice(_short(address, options), address.partition(":")[2], options)
    raise UsageError(
        f"no device is called {name!r}", why=nearest(kind, ["local", "arm64", "ssh", "adb"]), try_=", ".join(KINDS)
    )


def _ssh(name: str, address: str, options: Options) -> SshDevice:
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"{name!r} is no address", why=str(error), try_=KINDS[2]) from error
    if not host or host.startswith("-") or (parts.username or "").startswith("-") or parts.path.strip("/"):
        raise UsageError(f"{name!r} is no address of a host", try_=KINDS[2])
    if parts.password:
        raise UsageError(f"{name.replace(parts.password, '…')!r} holds a password", try_="a key, for ssh in batch mode")
    return SshDevice(_short(address, options), host, port, parts.username, options)


def _short(address: str, options: Options) -> str:
    """Without the paths of one machine, so that figures of two runs meet under one name."""
    return address + (f"?cores={','.join(map(str, options.cores))}" if options.cores else "")


def _options(name: str, query: str, known: set[str]) -> Options:
    """Of `python=PATH&cores=4-7`."""
    given = dict(parse_qsl(query, keep_blank_values=True))
    for key in given.keys() - known:
        raise UsageError(f"{name!r} has no option {key!r}", why=nearest(key, known), try_=", ".join(sorted(known)))
    if "/" in (python := given.get("python", "")) and not python.startswith("/"):
        raise UsageError(f"{name!r}: {python!r} is relative to nothing", try_="the absolute path of Python there")
    path = Path(given["benchmark_model"]) if "benchmark_model" in given else None
    if path and not path.is_file():
        raise UsageError(f"{name!r}: there is no file {path}", try_="LiteRT's benchmark_model, built for the device")
    return Options(python, _cores(name, given["cores"]) if "cores" in given else (), path)


def _cores(name: str, text: str) -> tuple[int, ...]:
    try:
        return cores(text)
    except ValueError as error:
        raise UsageError(f"{name!r}: {text!r} is no list of cores", try_="cores=0,4-7") from error
