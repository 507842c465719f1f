"""Runs one model file on this machine. It is pushed to devices: Python 3.7 or newer, numpy and one runtime, no more.

    python runner.py job.json

The job names the model, arrays to feed (.npy), threads, and how often to time one inference. Written beside it:
`output_SAMPLE_INDEX.npy`, and at the very end `result.json` with facts, output names, times, or what went wrong.
"""

import ctypes
import glob
import json
import os
import platform
import re
import sys
import time

import numpy as np

RUNTIMES = (
    ("ai_edge_litert.interpreter", "ai-edge-litert"),
    ("tflite_runtime.interpreter", "tflite-runtime"),
    ("tensorflow.lite.python.interpreter", "tensorflow"),
)
MARKER = 0x45444745
"""The counting plugin watches for getpriority(MARKER, START or STOP): the call fails, and does nothing anywhere."""
START, STOP = 1, 2
ABSENT, FAILED = 3, 4
"""Exit codes: no runtime here, the runtime refused the file."""

ELF_MACHINES = {3: "x86", 62: "x86", 40: "arm", 183: "arm"}
"""e_machine of elf.h -> processor: a 64-bit one runs 32-bit programs itself."""
BOARDS = ("/sys/class/dmi/id/sys_vendor", "/sys/class/dmi/id/product_name", "/proc/device-tree/compatible")
KVM = (
    "/sys/class/dmi/id/product_name",
    "/sys/class/ptp/ptp0/clock_name",
    "/sys/devices/system/clocksource/clocksource0/available_clocksource",
)


class Absent(Exception):
    """No runtime for the file on this device."""


def main(path):
    """Run the job and write what came of it."""
    os.chdir(os.path.dirname(os.path.abspath(path)))
    with open(os.path.basename(path)) as file:
        job = json.load(file)
    result, code = {"facts": facts()}, 0
    if result["facts"]["emulator"]:
        job["warmups"] = job["runs"] = 0  # its time says nothing
    try:
        result.update(run(job))
    except Absent as error:
        result["error"], code = str(error), ABSENT
    except OSError:
        raise  # a full disk is no fault of the file
    except Exception as error:
        result["error"], code = f"{type(error).__name__}: {error}", FAILED
    result["facts"]["celsius"] = celsius()
    with open("result.json.part", "w") as file:
        json.dump(result, file)
    os.rename("result.json.part", "result.json")
    return code


def run(job):
    """Every sample once; then the warm-ups and runs that are timed, on the last one; then one that is counted."""
    model = opened(job)
    names = model.outputs
    for number, sample in enumerate(job["feeds"]):
        model.feed({name: np.load(file) for name, file in sample.items()})
        model.invoke()
        for index, array in enumerate(model.results()):
            np.save(f"output_{number}_{index}.npy", array)
    warmups = [timed(model) for _ in range(job["warmups"])]
    times = [timed(model) for _ in range(job["runs"])]
    if job["count"]:
        mark = ctypes.CDLL(None).getpriority
        mark(MARKER, START)
        model.invoke()
        mark(MARKER, STOP)
    return {
        "runtime": model.runtime, "kernels": model.kernels, "outputs": names, "warmup_ms": warmups, "times_ms": times
    }  # fmt: skip


def opened(job):
    """The model on the runtime of its format."""
    if job["model"].endswith(".onnx"):
        return OnnxRuntime(job["model"], job["threads"], job["optimise"])
    return LiteRT(job["model"], job["threads"])


def timed(model):
    """Wall milliseconds of one inference, copies in and out left aside."""
    start = time.perf_counter()
    model.invoke()
    return (time.perf_counter() - start) * 1e3


class LiteRT:
    """A .tflite file, on XNNPACK."""

    kernels = "xnnpack"

    def __init__(self, path, threads):
        module, self.runtime = first_runtime()
        self._interpreter = module.Interpreter(path, num_threads=threads)
        self._interpreter.allocate_tensors()
        signatures = self._interpreter._get_full_signature_list()
        chosen = signatures.get("serving_default") or next(iter(signatures.values()), None)
        self._inputs = chosen["inputs"] if chosen else self._named(self._interpreter.get_input_details())
        outputs = chosen["outputs"] if chosen else self._named(self._interpreter.get_output_details())
        self.outputs, self._indices = list(outputs), list(outputs.values())
        self.invoke = self._interpreter.invoke

    @staticmethod
    def _named(details):
        return {detail["name"]: detail["index"] for detail in details}

    def feed(self, arrays):
        """Set every input."""
        for name, array in arrays.items():
            self._interpreter.set_tensor(self._inputs[name], array)

    def results(self):
        """Every output, in the order of `outputs`."""
        return [self._interpreter.get_tensor(index) for index in self._indices]


class OnnxRuntime:
    """An .onnx file, on the CPU provider."""

    def __init__(self, path, threads, optimise):
        try:
            import onnxruntime
        except ImportError as error:
            raise Absent(f"onnxruntime: {error}") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        if not optimise:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self.runtime = f"onnxruntime {onnxruntime.__version__}"
        self.kernels = "optimised" if optimise else "optimiser off"
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.outputs = [output.name for output in self._session.get_outputs()]
        self._given, self._found = {}, []

    def feed(self, arrays):
        """Set every input."""
        self._given = arrays

    def invoke(self):
        """One inference."""
        self._found = self._session.run(None, self._given)

    def results(self):
        """Every output, in the order of `outputs`."""
        return self._found


def first_runtime():
    """The first LiteRT that is installed, with its version."""
    reasons = []
    for module, package in RUNTIMES:
        try:
            found = __import__(module, fromlist=["Interpreter"])
        except ImportError as error:
            reasons.append(f"{package}: {error}")
            continue
        return found, f"{package} {version(package)}"
    raise Absent("; ".join(reasons))


def version(package):
    """Of an installed package; `?` where Python cannot tell."""
    try:
        from importlib import metadata
    except ImportError:  # Python 3.7
        return "?"
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "?"


def facts():
    """What this machine says about itself."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    governors = {read(path) for path in glob.glob("/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")}
    return {
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "cpuinfo": read("/proc/cpuinfo"),
        "cores": cores,
        "governor": ", ".join(sorted(governors - {""})),
        "emulator": emulator(),
    }


def emulator():
    """What emulates this machine's processor; empty where nothing seems to.

    A user-mode emulator gives its guest's answers to uname() and to /proc/self, but not to /proc/thread-self: there the
    kernel shows the program that it runs itself, which is the emulator's. Linux 6.1 and newer also name their own
    machine. QEMU's whole machines say that they are QEMU's, and those on a processor of silicon that KVM is there too.
    """
    guest = family(platform.machine())
    for host in (program_of_kernel(), family(read("/proc/sys/kernel/arch").strip())):
        if host and host != guest:
            return f"user-mode emulation on {host}"
    cpuinfo = read("/proc/cpuinfo")
    if "QEMU TCG" in cpuinfo or re.search(r"CPU implementer\s*: 0x00\n(.+\n)*CPU part\s*: 0x051\n", cpuinfo):  # `max`
        return "QEMU, whole machine"
    board = " ".join(read(path) for path in BOARDS)
    if ("QEMU" in board or "linux,dummy-virt" in board) and "kvm" not in " ".join(read(path) for path in KVM).lower():
        return "QEMU, whole machine, with no sign of KVM"
    return ""


def program_of_kernel():
    """The processor that the program is for which the kernel runs here; empty where that cannot be seen."""
    try:
        with open("/proc/thread-self/exe", "rb") as file:
            header = file.read(20)
    except OSError:
        return ""
    return ELF_MACHINES.get(int.from_bytes(header[18:], sys.byteorder), "")


def family(machine):
    """uname's machine -> processor."""
    if machine.startswith(("aarch64", "arm")):
        return "arm"
    return "x86" if machine in ("x86_64", "i386", "i486", "i586", "i686") else machine


def celsius():
    """The hottest thermal zone; None where there is none."""
    found = [read(path).strip() for path in glob.glob("/sys/class/thermal/thermal_zone*/temp")]
    return max((int(text) / 1000 for text in found if text.lstrip("-").isdigit()), default=None)


def read(path):
    """A file's text, empty where it cannot be read."""
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
