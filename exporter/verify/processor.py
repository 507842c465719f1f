"""The name of a processor, with the vector extensions that decide which int8 kernels a runtime picks."""

from __future__ import annotations

import platform
from pathlib import Path

_FLAGS = {  # /proc/cpuinfo flag -> the name people use; these decide which int8 kernels a runtime picks
    "avx2": "avx2",
    "avx512bw": "avx512",
    "avx_vnni": "avxvnni",
    "avx512_vnni": "avx512vnni",
    "amx_int8": "amx",
    "asimd": "asimd",
    "asimddp": "asimddp",
    "i8mm": "i8mm",
}
_ARM_PARTS = {  # "CPU part" of implementer 0x41 (Arm), from the MIDR_EL1 values in the cores' reference manuals
    0xD03: "Cortex-A53",
    0xD04: "Cortex-A35",
    0xD05: "Cortex-A55",
    0xD07: "Cortex-A57",
    0xD08: "Cortex-A72",
    0xD09: "Cortex-A73",
    0xD0A: "Cortex-A75",
    0xD0B: "Cortex-A76",
    0xD0C: "Neoverse-N1",
    0xD0D: "Cortex-A77",
    0xD40: "Neoverse-V1",
    0xD41: "Cortex-A78",
    0xD44: "Cortex-X1",
    0xD46: "Cortex-A510",
    0xD47: "Cortex-A710",
    0xD48: "Cortex-X2",
    0xD49: "Neoverse-N2",
    0xD4D: "Cortex-A715",
    0xD4E: "Cortex-X3",
    0xD4F: "Neoverse-V2",
    0xD80: "Cortex-A520",
    0xD81: "Cortex-A720",
    0xD82: "Cortex-X4",
}


def processor(cpuinfo: str | None = None) -> str:
    """This machine's CPU with the vector extensions that matter to int8, e.g. `AMD EPYC 7B13 (x86_64: avx2)`.

    `cpuinfo` is the text of /proc/cpuinfo, read when not given. A chip with several kinds of core names each.
    """
    if cpuinfo is None:
        path = Path("/proc/cpuinfo")
        cpuinfo = path.read_text(errors="replace") if path.exists() else ""
    fields: dict[str, list[str]] = {}
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        values = fields.setdefault(key.strip(), [])
        if value.strip() not in values:
            values.append(value.strip())
    parts = [int(part, 16) for part in fields.get("CPU part", [])] if fields.get("CPU implementer") == ["0x41"] else []
    names = fields.get("model name") or [_ARM_PARTS.get(part, f"Arm part {part:#x}") for part in parts]
    listed = set(" ".join(fields.get("flags", []) + fields.get("Features", [])).split())
    flags = [name for flag, name in _FLAGS.items() if flag in listed]
    machine = "aarch64" if "Features" in fields else platform.machine()
    return f"{' + '.join(names) or platform.processor() or 'unknown CPU'} ({machine}: {' '.join(flags) or 'baseline'})"
