"""The cores that can be emulated, and the files in which a Linux kernel describes them to its programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_FIRST = "fp asimd evtstrm aes pmull sha1 sha2 crc32"
_SECOND = f"{_FIRST} atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"


@dataclass(frozen=True)
class Core:
    """`cpu` is the emulator's option; `features`, `implementer` and `part` are of /proc/cpuinfo.

    Runtimes choose kernels by them: XNNPACK has its own for a Cortex-A53.
    """

    cpu: str
    features: str
    implementer: str
    part: str
    model: str = ""
    """Where no chip is meant."""


CORES = {
    "cortex-a53": Core("cortex-a53", f"{_FIRST} cpuid", "0x41", "0xd03"),
    "cortex-a76": Core("cortex-a76", _SECOND, "0x41", "0xd0b"),
    # The emulator computes SME wrongly (7.2): outputs differ.
    "i8mm": Core("max,sme=off", f"{_SECOND} sve sve2 i8mm bf16", "0x00", "0x051", "emulated core with i8mm"),
}
DEFAULT = "cortex-a76"


def write_prefix(core: Core, userland: str, prefix: Path) -> None:
    """What a program under emulation sees as `/`, before what is really there: the userland, and one core.

    `userland` is as seen from `prefix`, so that the cache can be moved.

    Without these files, importing LiteRT or onnxruntime crashes: they read the host's /proc/cpuinfo.
    """
    for name in ("lib", "usr"):
        (prefix / name).symlink_to(f"{userland}/{name}")
    cpus = prefix / "sys/devices/system/cpu"
    cpus.mkdir(parents=True)
    for name in ("possible", "present", "online"):
        (cpus / name).write_text("0\n")
    (prefix / "proc").mkdir()
    lines = (
        ("processor", "0"),
        *((("model name", core.model),) if core.model else ()),
        ("BogoMIPS", "50.00"),
        ("Features", core.features),
        ("CPU implementer", core.implementer),
        ("CPU architecture", "8"),
        ("CPU variant", "0x0"),
        ("CPU part", core.part),
        ("CPU revision", "4"),
    )
    (prefix / "proc/cpuinfo").write_text("".join(f"{key}\t: {value}\n" for key, value in lines) + "\n")
