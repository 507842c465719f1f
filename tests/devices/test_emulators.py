"""What a runner says of the machine that it is on, from what kernels show of themselves."""

from __future__ import annotations

import pytest

from exporter.verify.devices import runner

DUMMY = "linux,dummy-virt\0"
A76 = "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x4\nCPU part\t: 0xd0b\nCPU revision\t: 1\n"
MAX = "CPU implementer\t: 0x00\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0x051\nCPU revision\t: 0\n"
APPLE_IN_DOCKER = "CPU implementer\t: 0x00\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0x000\n"
VENDOR, PRODUCT = "/sys/class/dmi/id/sys_vendor", "/sys/class/dmi/id/product_name"
KERNEL, CPUINFO, TREE = "/proc/sys/kernel/arch", "/proc/cpuinfo", "/proc/device-tree/compatible"
CLOCK, SOURCES = "/sys/class/ptp/ptp0/clock_name", "/sys/devices/system/clocksource/clocksource0/available_clocksource"


@pytest.mark.parametrize(
    ("machine", "program", "files", "said"),
    [
        ("aarch64", "arm", {KERNEL: "aarch64\n", CPUINFO: A76}, ""),
        ("x86_64", "x86", {KERNEL: "x86_64\n"}, ""),
        ("i686", "x86", {KERNEL: "x86_64\n"}, ""),
        ("armv7l", "arm", {KERNEL: "aarch64\n"}, ""),
        ("armv8l", "arm", {}, ""),
        ("aarch64", "x86", {KERNEL: "x86_64\n", CPUINFO: A76}, "user-mode emulation on x86"),
        ("aarch64", "x86", {CPUINFO: A76}, "user-mode emulation on x86"),
        ("aarch64", "", {KERNEL: "x86_64\n"}, "user-mode emulation on x86"),
        ("x86_64", "arm", {KERNEL: "aarch64\n"}, "user-mode emulation on arm"),
        ("aarch64", "arm", {CPUINFO: MAX}, "QEMU, whole machine"),
        ("x86_64", "x86", {CPUINFO: "model name\t: QEMU TCG CPU version 2.5+\n"}, "QEMU, whole machine"),
        ("aarch64", "arm", {CPUINFO: A76, TREE: DUMMY}, "QEMU, whole machine, with no sign of KVM"),
        ("aarch64", "arm", {CPUINFO: A76, VENDOR: "QEMU\n"}, "QEMU, whole machine, with no sign of KVM"),
        ("aarch64", "arm", {CPUINFO: A76, TREE: DUMMY, CLOCK: "KVM virtual PTP\n"}, ""),
        ("aarch64", "arm", {CPUINFO: A76, VENDOR: "QEMU\n", PRODUCT: "KVM Virtual Machine\n"}, ""),
        ("x86_64", "x86", {VENDOR: "QEMU\n", SOURCES: "kvm-clock tsc\n"}, ""),
        ("aarch64", "arm", {CPUINFO: A76, VENDOR: "Amazon EC2\n"}, ""),
        ("aarch64", "arm", {CPUINFO: APPLE_IN_DOCKER}, ""),
    ],
    ids=[
        "board",
        "pc",
        "32-bit on a pc",
        "32-bit on a board",
        "32-bit, old kernel",
        "qemu-user",
        "qemu-user, kernel before 6.1",
        "qemu-user, program hidden",
        "x86 on arm",
        "core max",
        "tcg names itself",
        "virt machine",
        "qemu's dmi",
        "virt machine with kvm",
        "kvm in the dmi",
        "kvm clock",
        "graviton",
        "container on a Mac",
    ],
)
def test_what_is_emulated(
    monkeypatch: pytest.MonkeyPatch, machine: str, program: str, files: dict[str, str], said: str
) -> None:
    monkeypatch.setattr(runner.platform, "machine", lambda: machine)
    monkeypatch.setattr(runner, "program_of_kernel", lambda: program)
    monkeypatch.setattr(runner, "read", lambda path: files.get(path, ""))
    assert runner.emulator() == said


def test_this_machine_shows_the_program_that_its_kernel_runs() -> None:
    assert runner.program_of_kernel() == runner.family(runner.platform.machine()) or runner.emulator()
