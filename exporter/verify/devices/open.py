"""`--on NAME` -> device."""

from __future__ import annotations

from exporter.errors import UsageError, nearest
from exporter.verify.devices.local import LocalDevice
from exporter.verify.devices.protocol import Device

KINDS = ("local", "arm64[:CORE]", "ssh://USER@HOST[:PORT]", "adb[:SERIAL]")


def device(name: str) -> Device:
    """The device of a name as users write it. Nothing is started yet. Raises UsageError for any other name."""
    kind = name.split(":", maxsplit=1)[0]
    if name == "local":
        return LocalDevice()
    raise UsageError(
        f"no device is called {name!r}", why=nearest(kind, ["local", "arm64", "ssh", "adb"]), try_=", ".join(KINDS)
    )
