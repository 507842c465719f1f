import numpy as np
import pytest
from small_tflite import SHAPE, float_ops, int8_conv, subtract

from exporter.errors import DataError, UnsupportedError, UsageError
from exporter.verify.processor import processor
from exporter.verify.runtimes.litert import LiteRT, TensorInfo, partitions
from exporter.verify.runtimes.litert_file import read_file
from exporter.verify.runtimes.timing import measure

CODES = np.random.default_rng(0).integers(-128, 128, SHAPE, dtype=np.int8)


@pytest.fixture
def file(tmp_path):
    def write(content: bytes):
        path = tmp_path / "model.tflite"
        path.write_bytes(content)
        return path

    return write


def test_inputs_and_outputs_carry_the_signature_names_and_the_codes_meaning(file):
    model = LiteRT(file(int8_conv()))
    assert model.inputs == (TensorInfo("image", SHAPE, "int8", 0.5, 0),)
    assert model.outputs == (TensorInfo("copy", SHAPE, "int8", 0.5, 0),)
    assert model.runtime.startswith("ai-edge-litert ")


def test_without_a_signature_the_tensor_names_are_used(file):
    model = LiteRT(file(int8_conv(signature=False)))
    assert ([i.name for i in model.inputs], [o.name for o in model.outputs]) == (["x"], ["y"])


def test_order_is_the_signatures_not_the_alphabets(file):
    model = LiteRT(file(subtract()))
    assert [i.name for i in model.inputs] == ["z", "a"]
    assert [o.name for o in model.outputs] == ["up", "down"]
    two, one = np.full(4, 2, np.float32), np.ones(4, np.float32)
    for result in (model.run([two, one]), model.run({"a": one, "z": two})):
        assert list(result) == ["up", "down"]
        np.testing.assert_array_equal(result["up"], one)
        np.testing.assert_array_equal(result["down"], -one)


@pytest.mark.parametrize("delegate", [True, False], ids=["xnnpack", "builtin"])
def test_codes_pass_as_stored(file, delegate):
    model = LiteRT(file(int8_conv()), delegate=delegate)
    out = model.run([CODES])["copy"]
    assert out.dtype == np.int8
    np.testing.assert_array_equal(out, CODES)
    assert model.kernels == ("xnnpack" if delegate else "builtin")


def test_a_result_survives_the_next_run(file):
    model = LiteRT(file(int8_conv()))
    first = model.run([CODES])["copy"]
    model.run([np.zeros_like(CODES)])
    np.testing.assert_array_equal(first, CODES)


def test_strided_arrays_are_read_in_their_own_order(file):
    strided = np.ascontiguousarray(CODES.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)
    np.testing.assert_array_equal(LiteRT(file(int8_conv())).run([strided])["copy"], CODES)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([CODES.astype(np.float32)], r"image  is float32\[1, 8, 8, 3\], must be int8\[1, 8, 8, 3\]"),
        ([CODES.transpose(0, 3, 1, 2)], r"is int8\[1, 3, 8, 8\], must be"),
        ([CODES, CODES], "2 arrays given, 1 wanted"),
        ({"imgae": CODES}, r"imgae  no such input  did you mean image\?\n  image  missing"),
    ],
    ids=["dtype", "shape", "count", "name"],
)
def test_arrays_that_do_not_fit_are_refused(file, inputs, message):
    with pytest.raises(UsageError, match=message):
        LiteRT(file(int8_conv())).run(inputs)


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04 a zip file", int8_conv()[:900], b"\xff" * 4 + int8_conv()[4:]],
    ids=["empty", "foreign", "cut short", "broken root"],
)
def test_broken_files_are_a_data_error(file, content):
    path = file(content)
    with pytest.raises(DataError, match="not a readable TFLite file"):
        LiteRT(path)


def test_a_missing_file_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        LiteRT(tmp_path / "none.tflite")


def test_an_op_version_that_the_runtime_lacks_is_unsupported(file):
    with pytest.raises(UnsupportedError, match=r"CONV_2D.*version.*99"):
        LiteRT(file(int8_conv(version=99)))


def test_a_concat_that_rescales_names_the_delegate_and_the_op(file):
    path = file(int8_conv(concat=0.25))
    with pytest.raises(UnsupportedError, match=r"XNNPACK delegate refuses(.|\n)*CONCATENATION"):
        LiteRT(path)
    assert LiteRT(file(int8_conv(concat=0.5))).run([CODES])["joined"].shape == (*SHAPE[:3], 6)


def test_a_fully_delegated_file_is_one_partition(file):
    cut = partitions(file(int8_conv()))
    assert (cut.count, cut.ops, cut.undelegated) == (1, 1, ())


def test_an_op_that_xnnpack_lacks_splits_the_graph(file):
    cut = partitions(file(float_ops("RELU", "SIGN", "RELU", "RELU")))
    assert (cut.count, cut.ops) == (2, 4)
    assert [(op.index, op.name) for op in cut.undelegated] == [(1, "SIGN")]


def test_without_the_delegate_nothing_is_taken(file):
    cut = LiteRT(file(int8_conv()), delegate=False).partitions()
    assert (cut.count, [op.name for op in cut.undelegated]) == (0, ["CONV_2D"])


def test_the_file_tells_which_tensors_and_ops_are_float(file):
    facts = read_file(file(int8_conv()))
    assert [(op.name, op.version) for op in facts.ops] == [("CONV_2D", 3)]
    assert (facts.float_tensors, facts.float_ops) == ((), ())
    assert [(t.name, t.constant, t.scale) for t in facts.tensors[:2]] == [("x", False, (0.5,)), ("w", True, (1.0,) * 3)]
    facts = read_file(file(float_ops("SIGN")))
    assert [t.name for t in facts.float_tensors] == ["x", "t0"]
    assert [op.name for op in facts.float_ops] == ["SIGN"]


def test_latency_counts_its_runs_and_names_the_processor(file):
    latency = LiteRT(file(int8_conv())).latency([CODES], runs=20, warmup=2)
    assert 0 < latency.min_ms <= latency.median_ms <= latency.p90_ms
    assert (latency.runs, len(latency.warmup_ms), latency.threads) == (20, 2, 1)
    assert latency.device.processor == processor()


def test_measure_calls_warm_up_and_runs_and_refuses_none():
    calls = []
    measure(lambda: calls.append(1), runs=3, warmup=2, threads=1)
    assert len(calls) == 5
    with pytest.raises(UsageError):
        measure(lambda: None, runs=0, warmup=0, threads=1)


X86 = "processor : 0\nmodel name : AMD EPYC 9B14\nflags : fpu avx2 avx512bw avx512_vnni\n"
PI5 = "processor : 0\nFeatures : fp asimd asimddp\nCPU implementer : 0x41\nCPU part : 0xd0b\n"
PHONE = PI5 + "\nprocessor : 1\nFeatures : fp asimd asimddp i8mm\nCPU implementer : 0x41\nCPU part : 0xd4d\n"
UNLISTED = "Features : asimd\nCPU implementer : 0x41\nCPU part : 0xfff\n"


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        (X86, "AMD EPYC 9B14 ("),
        (X86, ": avx2 avx512 avx512vnni)"),
        (PI5, "Cortex-A76 (aarch64: asimd asimddp)"),
        (PHONE, "Cortex-A76 + Cortex-A715 (aarch64: asimd asimddp i8mm)"),
        (UNLISTED, "Arm part 0xfff (aarch64: asimd)"),
    ],
)
def test_the_processor_is_named_with_the_flags_that_pick_int8_kernels(cpuinfo, name):
    assert name in processor(cpuinfo)
