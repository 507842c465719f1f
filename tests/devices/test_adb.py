"""adb devices, through a genuine adbd: which device is meant, what Android says of itself, devices without Python."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from devices.double import Double
from devices.phone import PORT, PROPERTIES, answer, phone
from devices.remote_job import ENDLESS, copy_job, refused, while_at_work
from verify.small_tflite import int8_conv

from exporter.errors import RuntimeUnavailable, UnsupportedError, UsageError
from exporter.verify.devices import Job, device, run_job
from exporter.verify.devices.benchmark_model import NO_OUTPUTS, Times, parse
from exporter.verify.devices.facts import EmulatedDevice, RealDevice


@pytest.fixture
def handset(tmp_path: Path) -> Iterator[Double]:
    with phone(tmp_path) as double:
        yield double


@pytest.fixture
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    return copy_job(tmp_path_factory.mktemp("model"))


@pytest.fixture
def timer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("timer") / "benchmark_model"
    source = (Path(__file__).parent / "benchmark_model.py").read_text()
    program.write_text(f"#!/usr/bin/env -S -u LD_LIBRARY_PATH {sys.executable}\n{source}")
    return program


def adb(*arguments: str) -> None:
    subprocess.run(["adb", *arguments], check=True, capture_output=True)


def test_the_only_device_needs_no_serial(handset: Double, job: Job):
    ran = run_job(device("adb"), job)
    assert ran.device.name == "adb"
    assert ran.outputs


def test_what_android_says_of_itself(handset: Double, job: Job):
    found = run_job(device(handset.name), job).device
    assert isinstance(found, RealDevice)
    assert found.system == "Android 14 (API 34), Google Pixel 8, Google Tensor G3"
    assert (found.throttling, found.celsius) == ("light", 61.5)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("ro.kernel.qemu", "1", "Android emulator"),
        ("ro.boot.qemu", "1", "Android emulator"),
        ("ro.hardware", "ranchu", "Android emulator"),
        ("ro.hardware", "cutf_cvm", "Cuttlefish"),
    ],
)
def test_an_emulator_is_found_out_and_not_timed(handset: Double, job: Job, key: str, value: str, said: str):
    answer(handset, {**PROPERTIES, key: value})
    ran = run_job(device(handset.name), job)
    assert isinstance(ran.device, EmulatedDevice)
    assert ran.device.emulator == said
    assert ran.latency is None


def test_several_devices_are_listed(handset: Double, job: Job):
    adb("connect", f"localhost:{PORT}")  # the same one by another name
    with pytest.raises(UsageError) as raised:
        run_job(device("adb"), job)
    assert raised.value.what == "2 devices are attached"
    assert sorted(row.split()[0] for row in raised.value.where) == [f"127.0.0.1:{PORT}", f"localhost:{PORT}"]
    assert run_job(device(f"adb:localhost:{PORT}"), job).outputs


def test_no_device_is_attached(handset: Double, job: Job):
    adb("disconnect")
    error = refused("adb", job)
    assert error.what == "no Android device is attached"
    assert "USB debugging" in error.try_[0]


def test_another_serial(handset: Double, job: Job):
    error = refused("adb:R5CT12345", job)
    assert error.what == "no connection to adb:R5CT12345"
    assert "device 'R5CT12345' not found" in error.why
    assert error.try_ == ("adb devices -l",)


def test_no_adb_here(job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    error = refused("adb", job)
    assert error.what == "there is no adb on this machine"
    assert error.try_ == ("apt install adb",)


def test_neither_python_nor_benchmark_model(handset: Double, job: Job):
    (handset.folder / "bin" / "python3").unlink()
    error = refused(handset.name, job)
    assert error.what == f"there is no Python on {handset.name}, nor a benchmark_model"
    assert "?benchmark_model=FILE" in error.try_[0]
    assert handset.left == []


def test_benchmark_model_times_a_file(handset: Double, job: Job, timer: Path):
    core = max(os.sched_getaffinity(0))
    ran = run_job(device(f"{handset.name}?benchmark_model={timer}&cores={core}"), job)
    digest = hashlib.sha256(timer.read_bytes()).hexdigest()
    assert (ran.runtime, ran.kernels) == (f"benchmark_model sha256:{digest[:12]}", "xnnpack")
    assert (ran.outputs, ran.no_outputs) == ([], NO_OUTPUTS)
    assert isinstance(ran.device, RealDevice)
    assert ran.device.cores == (core,)
    assert ran.device.machine == os.uname().machine
    assert ran.device.throttling == "light"
    assert ran.latency is not None
    assert (ran.latency.runs, ran.latency.threads, ran.latency.p90_ms) == (5, 1, None)
    assert 0 <= ran.latency.min_ms <= ran.latency.median_ms
    assert handset.left == []


def test_benchmark_model_is_not_believed_on_an_emulator(handset: Double, job: Job, timer: Path):
    answer(handset, {**PROPERTIES, "ro.hardware": "ranchu"})
    assert run_job(device(f"{handset.name}?benchmark_model={timer}"), job).latency is None


def test_benchmark_model_refuses_a_file(handset: Double, job: Job, timer: Path):
    job.model.write_bytes(int8_conv()[:100])
    with pytest.raises(UnsupportedError) as raised:
        run_job(device(f"{handset.name}?benchmark_model={timer}"), job)
    assert "refuses copy.tflite" in raised.value.what
    assert "ERROR: Benchmarking failed." in raised.value.where
    assert handset.left == []


def test_benchmark_model_takes_no_onnx(handset: Double, job: Job, timer: Path):
    other = dataclasses.replace(job, model=job.model.rename(job.model.with_suffix(".onnx")))
    assert refused(f"{handset.name}?benchmark_model={timer}", other).what == "benchmark_model runs no .onnx file"


def test_benchmark_model_of_another_processor(handset: Double, job: Job, timer: Path):
    timer.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xf3\x00" + bytes(44))
    error = refused(f"{handset.name}?benchmark_model={timer}", job)
    assert error.what == f"benchmark_model does not run on {handset.name}"
    assert error.try_ == ("a benchmark_model built for arm64-v8a",)
    assert handset.left == []


def test_benchmark_model_that_crashes(handset: Double, job: Job, timer: Path):
    timer.write_text("#!/bin/sh\nkill -SEGV $$")
    error = refused(f"{handset.name}?benchmark_model={timer}", job)
    assert error.what.startswith("benchmark_model was ended by SIGSEGV")
    assert handset.left == []


def test_a_device_that_goes_away_under_benchmark_model(handset: Double, job: Job, timer: Path):
    thread = while_at_work(handset, handset.kill, "--graph")
    error = refused(f"{handset.name}?benchmark_model={timer}", dataclasses.replace(job, runs=ENDLESS))
    thread.join()
    assert "was lost" in error.what
    assert handset.left == []


def test_there_is_no_benchmark_model(tmp_path: Path):
    with pytest.raises(UsageError, match="there is no file"):
        device(f"adb?benchmark_model={tmp_path}/benchmark_model")


WARMUP = """\
INFO: Running benchmark for at least 3 iterations and at least 0 seconds but terminate if exceeding 150 seconds.
INFO: count=3 first=235158 curr=200386 min=199462 max=235158 avg=211669 std=16613 p5=199462 median=200386 p95=235158

INFO: Running benchmark for at least 25 iterations and at least 0 seconds but terminate if exceeding 150 seconds.
"""


def test_the_log_of_a_new_build():
    row = "INFO: count=25 first=18 curr=14 min=140071 max=195121 avg=145528 std=1358 p5=140545 median=141253 p95=187533"
    assert parse(f"{WARMUP}{row}\n\nINFO: Inference timings in us: Init: 92318") == Times(25, 141.253, 140.071)


def test_the_log_of_times_that_are_all_equal():
    row = "INFO: count=25 curr=2(all same) p5=2 median=2 p95=2"
    assert parse(f"{WARMUP}{row}\n") == Times(25, 0.002, 0.002)


def test_the_log_of_a_build_without_percentiles():
    with pytest.raises(RuntimeUnavailable) as raised:
        parse(f"{WARMUP}count=50 first=33228 curr=33130 min=32687 max=33239 avg=33071.8 std=129\n")
    assert raised.value.what == "this benchmark_model tells no median"


def test_a_log_that_ends_early():
    with pytest.raises(RuntimeUnavailable) as raised:
        parse(WARMUP)
    assert raised.value.what == "benchmark_model printed no times"
