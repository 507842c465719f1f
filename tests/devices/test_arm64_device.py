"""`arm64[:CORE]`: names, what it says about itself, and real files on the genuine aarch64 runtimes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tflite_files import int8_network

from exporter.errors import RuntimeUnavailable, UnsupportedError, UsageError
from exporter.verify.devices import Job, device, run_job
from exporter.verify.devices.arm64.cores import CORES
from exporter.verify.devices.facts import EmulatedDevice
from exporter.verify.runtimes.litert import LiteRT


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    file = int8_network(tmp_path_factory.mktemp("model"))
    info = LiteRT(file).inputs[0]
    codes = np.random.default_rng(0)
    return Job(file, [{info.name: codes.integers(-128, 128, info.shape, np.int8)} for _ in range(2)])


@pytest.mark.parametrize("name", ["arm64:cortex-a35", "arm64:", "arm64@2.14", "arm64:i8mm@", "arm65", "arm64/x"])
def test_another_name_is_refused(name):
    with pytest.raises(UsageError) as refusal:
        device(name)
    assert "arm64" in str(refusal.value)


def test_without_a_setup_its_command_is_named(monkeypatch, tmp_path, job):
    monkeypatch.setenv("EDGE_EXPORT_CACHE", str(tmp_path))
    with pytest.raises(RuntimeUnavailable, match="edge-export setup arm64"):
        run_job(device("arm64"), job)


def test_an_unreadable_record_names_the_command(monkeypatch, tmp_path, job):
    monkeypatch.setenv("EDGE_EXPORT_CACHE", str(tmp_path))
    (tmp_path / "arm64").mkdir()
    (tmp_path / "arm64/setup.json").write_text("{")
    with pytest.raises(RuntimeUnavailable, match="edge-export setup arm64"):
        run_job(device("arm64"), job)


@pytest.mark.parametrize(
    ("core", "processor"),
    [
        ("cortex-a53", "Cortex-A53 (aarch64: asimd)"),
        ("cortex-a76", "Cortex-A76 (aarch64: asimd asimddp)"),
        ("i8mm", "emulated core with i8mm (aarch64: asimd asimddp i8mm)"),
    ],
)
def test_int8_bytes_equal_those_of_this_machine(arm64, job, core, processor):
    ran, here = run_job(device(f"arm64:{core}"), job), run_job(device("local"), job)
    assert isinstance(ran.device, EmulatedDevice)
    assert (ran.device.machine, ran.device.processor) == ("aarch64", processor)
    assert ran.device.emulator.startswith("qemu-aarch64 7.2")
    assert ran.runtime == here.runtime
    for there, expected in zip(ran.outputs, here.outputs, strict=True):
        assert there.keys() == expected.keys()
        assert all(np.array_equal(there[name], expected[name]) for name in expected)
    assert len(np.unique(ran.outputs[0]["y"])) > 4  # the codes say something


def test_every_core_has_a_case_above():
    assert set(CORES) == {"cortex-a53", "cortex-a76", "i8mm"}


def test_there_is_no_latency_of_it(arm64, job):
    assert run_job(device("arm64"), Job(job.model, job.feeds, runs=2)).latency is None


def test_the_oldest_runtime(arm64, job):
    assert run_job(device("arm64:cortex-a53@tflite-runtime"), job).runtime == "tflite-runtime 2.14.0"


def test_host_variables_stay_outside(arm64, job, monkeypatch):
    monkeypatch.setenv("LD_LIBRARY_PATH", "/usr/lib/x86_64-linux-gnu")
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    assert run_job(device("arm64"), job).outputs


def test_a_file_that_it_refuses(arm64, job, tmp_path):
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(job.model.read_bytes()[:200])
    with pytest.raises(UnsupportedError, match=r"broken\.tflite"):
        run_job(device("arm64"), Job(broken, job.feeds))


def test_an_interrupt_leaves_no_process_and_no_folder(arm64, tmp_path):
    """Ctrl-C in the middle of an emulated run."""
    (tmp_path / "forever.py").write_text("while True:\n    pass\n")
    program = (
        "import sys; from pathlib import Path; from exporter.verify.devices import device\n"
        "with device('arm64').workspace() as there:\n"
        "    there.push(Path(sys.argv[1])); there.python('forever.py')\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "forever.py")], env=environment, stderr=subprocess.DEVNULL
    )
    emulators = _until(lambda: _children(child.pid))
    child.send_signal(signal.SIGINT)
    assert child.wait(timeout=60) != 0
    assert not [pid for pid in emulators if Path(f"/proc/{pid}").exists()]
    assert not list(tmp_path.glob("edge-export-*"))


def _children(pid: int) -> list[int]:
    """Emulators that a process has started."""
    found = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [child for child in found if b"forever.py" in Path(f"/proc/{child}/cmdline").read_bytes()]


def _until(look, seconds: float = 60):
    end = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return seen
