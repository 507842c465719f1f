"""What an Android device says about itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from exporter.verify.devices.shell import ShellWorkspace

THERMAL_STATUS = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
"""android.os.PowerManager.THERMAL_STATUS_*, by value."""
CPU = 0
"""android.os.Temperature.TYPE_CPU."""


@dataclass(frozen=True)
class AndroidWorkspace(ShellWorkspace):
    """A folder on an Android device."""

    def facts(self) -> dict[str, Any]:
        """Model, chip and version; thermal state; whether it is an emulator."""
        found = properties(self.shell("getprop").out)
        facts: dict[str, Any] = {**thermal(self.shell("dumpsys thermalservice").out), "system": system(found)}
        return {**facts, "emulator": emulator} if (emulator := emulated(found)) else facts


def properties(text: str) -> dict[str, str]:
    """Of getprop's `[key]: [value]`."""
    return dict(re.findall(r"^\[(.+?)\]: \[(.*)\]$", text, re.MULTILINE))


def system(found: dict[str, str]) -> str:
    """`Android 14 (API 34), Google Pixel 8, Google Tensor G3`."""
    maker, model = found.get("ro.product.manufacturer", ""), found.get("ro.product.model", "")
    chip = " ".join(found.get(f"ro.soc.{key}", "") for key in ("manufacturer", "model")).strip()
    parts = (
        f"Android {found.get('ro.build.version.release', '?')} (API {found.get('ro.build.version.sdk', '?')})",
        f"{maker} {model}".strip(),
        chip or found.get("ro.board.platform", ""),  # ro.soc.* is of Android 12 and newer
    )
    return ", ".join(part for part in parts if part)


def emulated(found: dict[str, str]) -> str:
    """The emulator of Android's SDK and Cuttlefish, by the names of their boards."""
    if "1" in (found.get("ro.kernel.qemu"), found.get("ro.boot.qemu")) or found.get("ro.hardware") in (
        "goldfish",
        "ranchu",
    ):
        return "Android emulator"
    return "Cuttlefish" if found.get("ro.hardware", "").startswith("cutf") else ""


def thermal(text: str) -> dict[str, Any]:
    """Of `dumpsys thermalservice` (Android 10 and newer): how far the system throttles, and the hottest core now."""
    found: dict[str, Any] = {}
    if status := re.search(r"^Thermal Status: (\d)", text, re.MULTILINE):
        found["throttling"] = THERMAL_STATUS[int(status[1])]
    now = text.partition("Current temperatures from HAL:")[2].partition("Current cooling devices")[0]
    cores = [float(value) for value, kind in re.findall(r"mValue=(-?[\d.]+), mType=(\d+)", now) if int(kind) == CPU]
    return {**found, "celsius": max(cores)} if cores else found
