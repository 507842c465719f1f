"""An ARM core in software: the genuine aarch64 runtimes under user-mode emulation, on any x86-64 Linux, without root.

`edge-export setup arm64` fetches emulator, userland and runtimes into the cache (setup.py, with packages.py and
wheels.py); `arm64[:CORE]` is the device (device.py), and `counts` what one inference takes on it (counting.py). Its
results are those of the real kernels. Its time says nothing.
"""

from exporter.verify.devices.arm64.counting import counts
from exporter.verify.devices.arm64.device import Arm64Device
from exporter.verify.devices.arm64.place import Setup, home, read_setup
from exporter.verify.devices.arm64.setup import set_up

__all__ = ["Arm64Device", "Setup", "counts", "home", "read_setup", "set_up"]
