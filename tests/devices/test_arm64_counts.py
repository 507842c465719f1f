"""Instructions and bytes of one inference: what is counted, how often it repeats, and whose it is."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from tflite_files import SIDE, float_network, int8_convolution, int8_network

from exporter.errors import RuntimeUnavailable, UnsupportedError
from exporter.verify.devices import Job, device
from exporter.verify.devices.arm64 import Arm64Device, counts, home
from exporter.verify.devices.arm64.emulator import emulated, environment
from exporter.verify.devices.arm64.operators import CLOCK_GETTIME, GETRUSAGE, operators, pair
from exporter.verify.devices.arm64.place import PLUGIN, Setup, write_setup
from exporter.verify.devices.arm64.plugin import Call, NotBuilt, Sums, build, read_region
from exporter.verify.devices.arm64.wheels import LITERT
from exporter.verify.devices.facts import Counts
from exporter.verify.devices.runner import MARKER, START, STOP
from exporter.verify.runtimes.litert import LiteRT
from exporter.verify.runtimes.litert_file import FileOp, FileTensor, TFLiteFile
from exporter.verify.runtimes.litert_profile import DELEGATED, OUTSIDE

CALLING = 20_000
"""Instructions of the interpreter around its operators, and of Python around the interpreter."""


def job(file: Path) -> Job:
    codes = np.random.default_rng(0)
    return Job(
        file,
        [
            {
                info.name: codes.integers(-128, 128, info.shape, np.int8)
                if info.dtype == "int8"
                else codes.random(info.shape, np.float32)
                for info in LiteRT(file).inputs
            }
        ],
    )


@pytest.fixture(scope="module")
def found(arm64_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Counts]:
    """Of a small network, on two cores."""
    folder = tmp_path_factory.mktemp("counted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGE_EXPORT_CACHE", str(arm64_cache))
        network, narrow = int8_network(folder), float_network(folder)
        return {
            "a53": counts(Arm64Device("arm64:cortex-a53"), job(network)),
            "a53 again": counts(Arm64Device("arm64:cortex-a53"), job(network)),
            "a76": counts(Arm64Device("arm64:cortex-a76"), job(network)),
            "float": counts(Arm64Device("arm64:cortex-a76"), job(narrow)),
        }


def test_two_runs_count_the_same(found):
    first, second = found["a53"], found["a53 again"]
    for name in ("instructions", "loaded_bytes", "stored_bytes"):
        assert abs(getattr(first, name) - getattr(second, name)) <= 1e-4 * getattr(first, name)
    assert first.ops == second.ops


def test_every_operator_of_the_file_has_its_count(found):
    for counted in found.values():
        names = [row.op for row in counted.ops if row.name]
        assert names == ["CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "ADD", "MEAN", *names[5:]]
        assert names[-1] == "FULLY_CONNECTED"
        assert all(row.instructions and row.loaded_bytes for row in counted.ops)


@pytest.mark.parametrize("column", ["instructions", "loaded_bytes", "stored_bytes"])
def test_operators_add_up_to_the_whole(found, column):
    for counted in found.values():
        rest = getattr(counted, column) - sum(getattr(row, column) for row in counted.ops)
        assert 0 < rest < CALLING * {"instructions": 1, "loaded_bytes": 4, "stored_bytes": 4}[column]


def test_int8_takes_less_than_float_and_a_later_core_less_than_an_earlier_one(found):
    """The dot product multiplies four codes at once; a float vector has a quarter of the lanes."""
    assert found["a76"].instructions < found["a53"].instructions
    assert found["a76"].instructions < found["float"].instructions
    assert found["a76"].loaded_bytes < found["float"].loaded_bytes


def test_one_operator_is_the_whole_but_for_the_call_and_four_times_the_pixels_are_four_times_its_work(arm64, tmp_path):
    small, large = (counts(Arm64Device("arm64"), job(int8_convolution(tmp_path, side))) for side in (SIDE, 2 * SIDE))
    (row,), (four_times,) = small.ops, large.ops
    assert row.op == "CONV_2D"
    assert 0 < small.instructions - row.instructions < CALLING
    assert row.stored_bytes >= SIDE * SIDE * 16
    assert row.loaded_bytes >= SIDE * SIDE * 16 + 16 * 16
    assert four_times.instructions / row.instructions == pytest.approx(4, rel=0.1)
    assert four_times.stored_bytes / row.stored_bytes == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("core", ["cortex-a53", "cortex-a76", "i8mm"])
def test_bytes_by_encoding_equal_bytes_access_by_access(arm64, tmp_path, core):
    """Python, numpy and LiteRT while they start: two thousand million instructions of every kind."""
    out, program = tmp_path / "counted.txt", tmp_path / "program.py"
    program.write_text(
        f"import ctypes; mark = ctypes.CDLL(None).getpriority; mark({MARKER}, {START})\n"
        f"import ai_edge_litert.interpreter\nmark({MARKER}, {STOP})\n"
    )
    command = emulated(home(), core, str(program), plugin=f"{home() / PLUGIN},out={out},check=on")
    subprocess.run(command, env=environment(home(), LITERT), check=True)
    lines = [[int(word) for word in line.split()[1:]] for line in out.read_text().splitlines()]
    assert len(lines) > 100
    for _, _, loaded, stored, loaded_by_access, stored_by_access in lines:
        assert (loaded, stored) == (loaded_by_access, stored_by_access)


def test_an_onnx_file_is_counted_as_a_whole(arm64, tmp_path):
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    shapes = {name: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [64, 64]) for name in "xy"}
    weights = onnx.numpy_helper.from_array(np.ones((64, 64), np.float32), "w")
    graph = onnx.helper.make_graph([node], "g", [shapes["x"]], [shapes["y"]], [weights])
    model = onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 17)])
    onnx.save(model, tmp_path / "m.onnx")
    counted = counts(Arm64Device("arm64"), Job(tmp_path / "m.onnx", [{"x": np.ones((64, 64), np.float32)}]))
    assert counted.ops == ()
    assert counted.instructions > 64**3 / 4  # four products an instruction at best


def test_without_a_plugin_the_reason_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGE_EXPORT_CACHE", str(tmp_path))
    home().mkdir()
    write_setup(Setup(emulator="qemu-aarch64 7.2.1", runtimes={}, not_counting="gcc is not installed"))
    assert not device("arm64").can_count
    with pytest.raises(RuntimeUnavailable, match="gcc is not installed"):
        counts(Arm64Device("arm64"), Job(tmp_path / "m.tflite", [{}]))


def test_a_real_device_counts_nothing(tmp_path):
    with pytest.raises(RuntimeUnavailable, match="only emulated ARM cores can"):
        counts(device("local"), Job(tmp_path / "m.tflite", [{}]))


def test_another_emulator_has_another_interface(tmp_path):
    with pytest.raises(NotBuilt, match=r"QEMU 7\.2, and this is qemu-aarch64 10\.0\.2"):
        build("qemu-aarch64 10.0.2", tmp_path)


# --- lines of the plugin, and whose they are ------------------------------------------------------------------------
def test_a_region_without_an_end_is_refused():
    with pytest.raises(UnsupportedError, match="0 at its end"):
        read_region(["mark 1 10 20 30", "call 113 11 21 31"])


def test_a_region_is_the_difference_of_its_marks():
    region = read_region(["mark 1 10 20 30", "call 113 11 21 31", "mark 2 15 27 39"])
    assert region.sums == Sums(5, 7, 9)
    assert region.calls == (Call(113, Sums(11, 21, 31)),)


def tensor(index: int) -> FileTensor:
    return FileTensor(index, f"t{index}", (1,), "int8", (), (), 0, constant=False)


def op(index: int, name: str, inputs: int = 1) -> FileOp:
    return FileOp(index, name, 1, (0,) * inputs, (index + 1,))


def file_of(*ops: FileOp) -> TFLiteFile:
    tensors = tuple(tensor(i) for i in range(len(ops) + 1))
    return TFLiteFile("", 1, tensors, ops, (0,), (len(ops),), (), ())


def clock(*sums: int) -> list[Call]:
    return [Call(CLOCK_GETTIME, Sums(n, 2 * n, 3 * n)) for n in sums]


def test_readings_become_the_operators_counts():
    """Profiler; a partition of two, the second a concatenation of two; an op outside; a partition of one; profiler."""
    file = file_of(op(0, "CONV_2D"), op(1, "CONCATENATION", 2), op(2, "GELU"), op(3, "ADD"))
    framework = [Call(CLOCK_GETTIME, Sums(1, 1, 1)), Call(GETRUSAGE, Sums(2, 2, 2))]
    calls = [*framework, *clock(10, 110, 120, 140), *clock(150, 1150), *clock(1200, 1203), *framework]
    events = [
        (1, "Invoke", 0),
        (DELEGATED[1], "Convolution (NHWC, QC8) IGEMM", 0),
        (DELEGATED[1], "Copy (NC, X8)", 1),
        (OUTSIDE, "GELU", 2),
        (DELEGATED[1], "Add (ND)", 0),
    ]
    rows = operators(events, calls, file)
    assert [(row.op, row.name, row.instructions) for row in rows] == [
        ("CONV_2D", "t1", 100),
        ("CONCATENATION", "t2", 30),
        ("GELU", "t3", 1000),
        ("ADD", "t4", 3),
    ]
    assert (rows[0].loaded_bytes, rows[0].stored_bytes) == (200, 300)


@pytest.mark.parametrize("missing", [0, -1])
def test_readings_that_do_not_add_up_are_nobodys(missing):
    calls = clock(10, 20, 30)
    del calls[missing]
    events = [(DELEGATED[1], "Add (ND)", 0), (DELEGATED[1], "Multiply (ND)", 1)]
    assert operators(events, calls, file_of(op(0, "ADD"), op(1, "MUL"))) == ()
    assert operators(events, clock(10, 20, 30, 40), file_of(op(0, "ADD"), op(1, "MUL"))) == ()


@pytest.mark.parametrize(
    ("events", "ops", "expected"),
    [
        (["Convolution (NHWC, QC8) IGEMM"], ["PAD", "CONV_2D"], [1]),
        (["Constant Pad (ND, X8)", "Convolution (NHWC, QC8) DWConv"], ["PAD", "DEPTHWISE_CONV_2D"], [0, 1]),
        (["Invalid Unary Op", "Sigmoid (NC)", "Multiply (ND)"], ["LOGISTIC", "MUL", "LOGISTIC", "MUL"], [1, 2, 3]),
        (["Sigmoid (NC)", "Multiply (ND)", "Invalid Unary Op"], ["LOGISTIC", "MUL", "LOGISTIC", "MUL"], [0, 1, 3]),
        (["Add (ND)", "Clamp (NC)", "Add (ND)"], ["ADD", "ADD"], [0, None, 1]),
        (["Add (ND)", "Invalid Unary Op", "Fully Connected (NC, QS8)"], ["ADD", "QUANTIZE", "CONV_2D"], [0, 1, 2]),
        (["Static Reshape (NC)", "Fully Connected (NC, F32) GEMM"], ["RESHAPE", "FULLY_CONNECTED"], [0, 1]),
        (["Something New"], ["CONV_2D"], [None]),
        ([], ["PAD"], []),
    ],
)
def test_pairs_with_the_operators_of_the_file(events, ops, expected):
    listed = [op(index, name) for index, name in enumerate(ops)]
    assert pair(events, listed) == [None if index is None else listed[index] for index in expected]
