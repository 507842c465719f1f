"""`--on NAME` -> device."""

from __future__ import annotations

import re

from exporter.errors import UsageError, nearest
from exporter.verify.devices.arm64 import Arm64Device
from exporter.verify.devices.local import LocalDevice
from exporter.verify.devices.protocol import Device

KINDS = ("local", "arm64[:CORE][@tflite-runtime]", "ssh://USER@HOST[:PORT]", "adb[:SERIAL]")


def device(name: str) -> Device:
    """The device of a name as users write it. Nothing is started yet. Raises UsageError for any other name."""
    kind = re.split("[:@]", name, maxsplit=1)[0]
    if name == "local":
        return LocalDevice()
    if kind == "arm64":
        return Arm64Device(name)
    raise UsageError(
        f"no device is called {name!r}", why=nearest(kind, ["local", "arm64", "ssh", "adb"]), try_=", ".join(KINDS)
    )
