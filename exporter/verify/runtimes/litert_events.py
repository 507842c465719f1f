"""A program of its own: runs a .tflite file through LiteRT's C API with its profiler on and prints the events as JSON.

    python litert_events.py MODEL INPUTS.npz SPEC.json

INPUTS holds the arrays by input name. SPEC: {"runs", "warmup", "threads", "inputs", "outputs"}, the last two mapping
names to [dtype, shape]. Prints [[event type, tag, metadata, microseconds], ...] of one run, in order, times summed over
all runs. Where SPEC has "marks", two pairs of numbers, each run stands between getpriority of the first and of the
second: the counting plugin of the arm64 emulator watches for them. LiteRT's C API makes no promise of a stable ABI, so
litert_profile.py starts this in a child process and only with versions that were tried. Structures and enums:
litert/c/*.h of LiteRT 2.3. Its clock counts whole microseconds.
"""

import ctypes
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

CPU = 1  # kLiteRtHwAcceleratorCpu
WRITE = 1  # kLiteRtTensorBufferLockModeWrite
ELEMENT_TYPES = {
    "float32": 1,
    "int32": 2,
    "uint8": 3,
    "int64": 4,
    "bool": 6,
    "int16": 7,
    "int8": 9,
    "float16": 10,
    "float64": 11,
}


class Layout(ctypes.Structure):
    """LiteRtLayout."""

    _fields_ = (
        ("rank", ctypes.c_uint, 7),
        ("has_strides", ctypes.c_uint, 1),
        ("dimensions", ctypes.c_int32 * 8),
        ("strides", ctypes.c_uint32 * 8),
    )


class RankedTensorType(ctypes.Structure):
    """LiteRtRankedTensorType."""

    _fields_ = (("element_type", ctypes.c_int), ("layout", Layout))


class Event(ctypes.Structure):
    """ProfiledEventData."""

    _fields_ = (
        ("tag", ctypes.c_char_p),
        ("event_type", ctypes.c_int),
        ("start_us", ctypes.c_uint64),
        ("elapsed_us", ctypes.c_uint64),
        ("memory", ctypes.c_size_t * 6),
        ("metadata", ctypes.c_uint64),
        ("more_metadata", ctypes.c_uint64),
        ("source", ctypes.c_int),
    )


Handle = ctypes.c_void_p
Names = Mapping[str, tuple[str, list[int]]]


class Api:
    """The functions of libLiteRt.so, named without their prefix. Those used here return a status, 0 for success."""

    def __init__(self) -> None:
        spec = importlib.util.find_spec("ai_edge_litert")
        if spec is None or spec.origin is None:
            raise RuntimeError("ai_edge_litert is not installed")
        self.library = ctypes.CDLL(str(Path(spec.origin).with_name("libLiteRt.so")))

    def call(self, name: str, *arguments: Any) -> None:
        """Call LiteRt<name>; RuntimeError for any status but 0."""
        status = getattr(self.library, f"LiteRt{name}")(*arguments)
        if status != 0:
            raise RuntimeError(f"LiteRt{name} returned status {status}")

    def make(self, name: str, *arguments: Any) -> Handle:
        """Call LiteRt<name> with a last argument that receives a handle."""
        handle = Handle()
        self.call(name, *arguments, ctypes.byref(handle))
        return handle


def events(model: str, arrays: Mapping[str, np.ndarray], spec: Mapping[str, Any]) -> list[list[Any]]:
    """[event type, tag, metadata, summed microseconds] for every event of one run, in order."""
    api = Api()
    environment = api.make("CreateEnvironment", 0, None)
    loaded = api.make("CreateModelFromFile", environment, model.encode())
    options = api.make("CreateOptions")
    api.call("SetOptionsHardwareAccelerators", options, CPU)
    keep: list[object] = []  # what the library points at
    for identifier, toml in (
        (b"runtime_options_string", b"enable_profiling = true\n"),
        (b"xnnpack", b"num_threads = %d\n" % spec["threads"]),
    ):
        payload, destructor = ctypes.create_string_buffer(toml), ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: None)
        keep += [payload, destructor]
        api.call("AddOpaqueOptions", options, api.make("CreateOpaqueOptions", identifier, payload, destructor))
    compiled = api.make("CreateCompiledModel", environment, loaded, options)
    signature = api.make("GetModelSignature", loaded, ctypes.c_size_t(0))
    inputs = buffers(api, environment, compiled, signature, side="Input", names=spec["inputs"])
    outputs = buffers(api, environment, compiled, signature, side="Output", names=spec["outputs"])
    for name, buffer in inputs:
        address = Handle()
        content = np.ascontiguousarray(arrays[name])
        api.call("LockTensorBuffer", buffer, ctypes.byref(address), WRITE)
        ctypes.memmove(address, content.ctypes.data, content.nbytes)
        api.call("UnlockTensorBuffer", buffer)
    given, taken = handles([b for _, b in inputs]), handles([b for _, b in outputs])

    def run() -> None:
        api.call(
            "RunCompiledModel", compiled, ctypes.c_size_t(0), *(ctypes.c_size_t(len(given)), given),
            *(ctypes.c_size_t(len(taken)), taken),
        )  # fmt: skip

    return profiled(api, compiled, marked(run, *spec["marks"]) if "marks" in spec else run, run, spec)


def marked(run: Callable[[], None], begin: list[int], end: list[int]) -> Callable[[], None]:
    """`run` between two system calls that do nothing."""
    getpriority = ctypes.CDLL(None).getpriority

    def between() -> None:
        getpriority(*begin)
        run()
        getpriority(*end)

    return between


def profiled(
    api: Api, compiled: Handle, run: Callable[[], None], warm_up: Callable[[], None], spec: Mapping[str, Any]
) -> list[list[Any]]:
    """The events of `runs` calls of `run`, summed place by place, after `warmup` calls without profiling."""
    profiler = api.make("CompiledModelGetProfiler", compiled)
    for _ in range(spec["warmup"]):
        warm_up()
    total: list[list[Any]] = []
    for _ in range(spec["runs"]):
        api.call("StartProfiler", profiler)  # clears what it holds
        run()
        api.call("StopProfiler", profiler)
        count = ctypes.c_int()
        api.call("GetNumProfilerEvents", profiler, ctypes.byref(count))
        found = (Event * count.value)()
        api.call("GetProfilerEvents", profiler, count, found)
        once = [[e.event_type, e.tag.decode(), e.metadata, e.elapsed_us] for e in found]
        total = total or [[*event[:3], 0] for event in once]
        if [event[:3] for event in once] != [event[:3] for event in total]:
            raise RuntimeError("two runs of one model gave different events")
        for event, seen in zip(total, once, strict=True):
            event[3] += seen[3]
    return total


def buffers(
    api: Api, environment: Handle, compiled: Handle, signature: Handle, *, side: str, names: Names
) -> list[tuple[str, Handle]]:
    """A buffer per input or output, in the signature's order, with its name."""
    made = []
    for i in range(len(names)):
        text = ctypes.c_char_p()
        api.call(f"GetSignature{side}Name", signature, ctypes.c_size_t(i), ctypes.byref(text))
        name = (text.value or b"").decode()
        dtype, shape = names[name]
        kind = RankedTensorType(ELEMENT_TYPES[dtype])
        kind.layout.rank = len(shape)
        kind.layout.dimensions[: len(shape)] = shape
        needs = api.make(f"GetCompiledModel{side}BufferRequirements", compiled, ctypes.c_size_t(0), ctypes.c_size_t(i))
        create = "CreateManagedTensorBufferFromRequirements"
        made.append((name, api.make(create, environment, ctypes.byref(kind), needs)))
    return made


def handles(values: list[Handle]) -> "ctypes.Array[Handle]":
    """A C array of handles."""
    return (Handle * len(values))(*[value.value for value in values])


def main(model: str, inputs: str, spec: str) -> None:
    """Print the events."""
    sys.stdout.write(json.dumps(events(model, np.load(inputs), json.loads(Path(spec).read_text()))))
    sys.stdout.flush()
    os._exit(0)  # nothing says in which order the library's objects may be destroyed


if __name__ == "__main__":
    main(*sys.argv[1:])
