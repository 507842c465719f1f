"""An Android device to test against: a genuine adbd in a network namespace of its own.

Its protocol, Android's shell (mksh) and its tools (toybox) are genuine; Android is not there. /data/local/tmp is, and
`getprop` and `dumpsys` answer as a phone's do.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from devices.double import ROOT, Double, found, furnish, hold, libraries, namespace, started

PORT = 5600
"""Above those where adb looks for emulators by itself."""
START = """\
ip link set lo up 2>/dev/null || ifconfig lo up
new={folder}/root
mkdir "$new"
mount -t tmpfs none "$new"
for top in /*; do
  if [ -L "$top" ]; then cp -a "$top" "$new"
  elif [ -d "$top" ] && [ "$top" != /data ] && [ "$top" != /system ]
  then mkdir "$new$top" && mount --rbind "$top" "$new$top"
  fi
done
mkdir -p "$new/data/local/tmp" "$new/system/bin"
mount --bind {mksh} "$new$(readlink -f /bin/sh)"
ln -s /bin/sh "$new/system/bin/sh"
cp {toybox} "$new/system/bin/toybox"
for tool in $(env {libraries} {toybox}); do [ -e "$new/system/bin/$tool" ] || ln -s toybox "$new/system/bin/$tool"; done
mount --bind {folder}/passwd "$new/etc/passwd"
mount -t tmpfs -o size={size} none "$new/data/local/tmp"
chroot "$new" env -i PATH={folder}/bin:/system/bin PYTHONPATH={folder}/site DOUBLE={folder} ADBD_PORT={port} \\
  {libraries} {adbd} &
wait
exec sleep infinity
"""
PROPERTIES = {
    "ro.build.version.release": "14",
    "ro.build.version.sdk": "34",
    "ro.hardware": "shiba",
    "ro.product.cpu.abi": "arm64-v8a",
    "ro.product.manufacturer": "Google",
    "ro.product.model": "Pixel 8",
    "ro.soc.manufacturer": "Google",
    "ro.soc.model": "Tensor G3",
}
THERMAL = """\
IsStatusOverride: false
Thermal Status: 1
Cached temperatures:
\tTemperature{mValue=99.0, mType=0, mName=BIG, mStatus=0}
HAL Ready: true
Current temperatures from HAL:
\tTemperature{mValue=61.5, mType=0, mName=BIG, mStatus=0}
\tTemperature{mValue=48.2, mType=0, mName=LITTLE, mStatus=0}
\tTemperature{mValue=71.0, mType=1, mName=G3D, mStatus=0}
Current cooling devices from HAL:
\tCoolingDevice{mValue=0, mType=2, mName=thermal-cpufreq-0}
"""


@contextmanager
def phone(folder: Path, *, kilobytes: int = 0) -> Iterator[Double]:
    """The adbd, with an `adb` that is connected to it first on this process's PATH.

    `kilobytes`: of the disk that /data/local/tmp is on.
    """
    adbd, adb, mksh, toybox = map(found, ("adbd", "adb", "mksh", "toybox"))
    furnish(folder)
    (folder / "passwd").write_text("root:x:0:0::/:/system/bin/sh\n")
    size = f"{kilobytes}k" if kilobytes else "100%"
    start = START.format(
        folder=folder, size=size, port=PORT, libraries=libraries(), adbd=adbd, mksh=mksh, toybox=toybox
    )
    holder = hold(folder, [*namespace("net", "mount"), "sh", "-ec", start])
    double = Double(f"adb:127.0.0.1:{PORT}", folder, f"{folder}/root/data/local/tmp", "adbd", holder)
    double.program("python3", f'exec env -u LD_LIBRARY_PATH {sys.executable} "$@"')
    answer(double, PROPERTIES)
    double.program("dumpsys", f"cat <<'END'\n{THERMAL}END")
    enter = f"nsenter --target {holder.pid} --net" + ("" if ROOT else " --user --preserve-credentials")
    client = folder / "client" / "adb"
    client.write_text(f'#!/bin/sh\nexec {enter} env {libraries()} CLIENT={folder} HOME={folder}/client {adb} "$@"\n')
    client.chmod(0o755)
    try:
        started(double, lambda: b"connected to" in _adb(client, "connect", f"127.0.0.1:{PORT}"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", f"{folder}/client", prepend=os.pathsep)
            yield double
    finally:
        _adb(client, "kill-server")
        double.end()


def answer(double: Double, properties: dict[str, str]) -> None:
    """What its getprop says: of all properties, or the value of one."""
    rows = double.folder / "properties"
    rows.write_text("".join(f"[{key}]: [{value}]\n" for key, value in properties.items()))
    double.program("getprop", f'[ $# = 0 ] && exec cat {rows}; sed -n "s/^\\[$1\\]: \\[\\(.*\\)\\]$/\\1/p" {rows}')


def _adb(client: Path, *arguments: str) -> bytes:
    return subprocess.run([client, *arguments], check=False, capture_output=True).stdout
