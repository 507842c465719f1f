import numpy as np
import pytest
from small_tflite import SHAPE, float_ops, int8_conv, subtract

from exporter.errors import UsageError
from exporter.verify.runtimes import litert_profile
from exporter.verify.runtimes.litert_profile import NoProfile, OpTime, Profile, profile

IMAGE = np.ones(SHAPE, np.float32)


@pytest.fixture
def file(tmp_path):
    def write(content: bytes):
        path = tmp_path / "model.tflite"
        path.write_bytes(content)
        return path

    return write


def test_ops_come_in_order_and_tell_who_ran_them(file):
    told = profile(file(float_ops("RELU", "SIGN", "RELU")), [IMAGE], runs=3)
    assert isinstance(told, Profile), told
    assert [(op.name, op.delegated, op.index) for op in told.ops] == [
        ("Clamp (NC)", True, None),
        ("SIGN", False, 1),
        ("Clamp (NC)", True, None),
    ]
    assert (told.partitions.count, [op.name for op in told.partitions.undelegated]) == (2, ["SIGN"])
    assert (told.runs, told.threads, told.runtime.split()[0]) == (3, 1, "ai-edge-litert")


def test_an_int8_convolution_runs_on_an_integer_operator_of_xnnpack(file):
    told = profile(file(int8_conv()), [np.ones(SHAPE, np.int8)], runs=2)
    assert isinstance(told, Profile), told
    (conv,) = told.ops
    assert conv.delegated
    assert "QS8, QC8W" in conv.name  # int8 activations, per-channel int8 weights
    assert told.outside == 0


def test_inputs_are_matched_by_name_with_and_without_a_signature(file):
    ones = np.ones(4, np.float32)
    assert isinstance(profile(file(subtract()), {"a": ones, "z": ones}, runs=1), Profile)
    assert isinstance(profile(file(int8_conv(signature=False)), {"x": np.ones(SHAPE, np.int8)}, runs=1), Profile)


@pytest.fixture
def measured():
    ops = (
        OpTime("Convolution", 60.0, True),
        OpTime("SIGN", 10.0, False, 1),
        OpTime("Convolution", 20.0, True),
        OpTime("ROUND", 10.0, False, 3),
    )
    return Profile(ops, 1, 1, "ai-edge-litert 2.3.0", None)


def test_shares_are_of_the_whole_time(measured):
    assert measured.microseconds == 100
    assert measured.outside == pytest.approx(0.2)
    assert measured.by_name() == pytest.approx({"Convolution": 0.8, "SIGN": 0.1, "ROUND": 0.1})
    assert list(measured.by_name(delegated=False)) == ["SIGN", "ROUND"]


def test_top_lists_the_slowest_ops(measured):
    assert [op.microseconds for op in measured.top(2)] == [60, 20]


def test_another_version_is_not_called(file, monkeypatch):
    monkeypatch.setattr(litert_profile, "TRIED", ("1.0.",))
    told = profile(file(int8_conv()), [np.ones(SHAPE, np.int8)])
    assert isinstance(told, NoProfile)
    assert "known for ai-edge-litert 1.0.x only" in told.reason


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import os; os.abort()", "died of SIGABRT"),
        ("raise RuntimeError('LiteRtCreateOptions returned status 3')", "LiteRtCreateOptions returned status 3"),
        ("raise SystemExit(5)", "ended with code 5"),
    ],
    ids=["crash", "status", "silent"],
)
def test_a_child_that_fails_is_a_reason_and_not_a_crash(file, tmp_path, monkeypatch, program, reason):
    (tmp_path / "litert_events.py").write_text(program)
    monkeypatch.setattr(litert_profile, "__file__", str(tmp_path / "litert_profile.py"))
    told = profile(file(int8_conv()), [np.ones(SHAPE, np.int8)])
    assert isinstance(told, NoProfile)
    assert reason in told.reason


def test_wrong_inputs_are_a_usage_error(file):
    with pytest.raises(UsageError, match="must be int8"):
        profile(file(int8_conv()), [IMAGE])
    with pytest.raises(UsageError, match="0 runs"):
        profile(file(int8_conv()), [np.ones(SHAPE, np.int8)], runs=0)
