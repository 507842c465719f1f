"""What `doctor` finds on machines other than this one."""

import importlib.util
import platform
import sys
from importlib.machinery import ModuleSpec

import pytest

from exporter.report.doctor import doctor
from exporter.verify.devices.arm64.place import Setup, write_setup


def found(what):
    return next(finding for finding in doctor() if finding.what == what)


@pytest.mark.parametrize(
    ("package", "extra"),
    [("onnx", "onnx"), ("onnxruntime", "onnx"), ("onnxsim", "onnx"), ("coremltools", "coreml"), ("tensorflow",) * 2],
)
def test_absent_package_names_its_extra(monkeypatch, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    finding = found(package)
    assert (finding.state, finding.remedy) == ("absent", f"pip install 'edge-export[{extra}]'")
    assert not finding.needed


def test_coremltools_without_compiled_parts(monkeypatch, tmp_path):
    """As pip installs it from source, where no wheel fits the Python."""
    spec = ModuleSpec("coremltools", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.delitem(sys.modules, "coremltools", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    assert found("coremltools").state == "broken"
    (tmp_path / "libmilstoragepython.so").touch()
    assert found("coremltools").state == "ready"


@pytest.mark.parametrize(
    ("system", "state", "said"), [("darwin", "ready", "macOS 15.1"), ("linux", "absent", "only macOS")]
)
def test_core_ml_is_part_of_macos(monkeypatch, system, state, said):
    monkeypatch.setattr(platform, "mac_ver", lambda: ("15.1", ("", "", ""), "arm64"))
    monkeypatch.setattr(sys, "platform", system)
    finding = found("Core ML")
    assert finding.state == state
    assert said in finding.detail


@pytest.mark.parametrize(
    ("cpu", "warns"), [("A (x86_64: avx2)", True), ("B (x86_64: avx512_vnni)", False), ("C (aarch64)", False)]
)
def test_processor_without_vnni_is_said_beside_onnxruntime(monkeypatch, cpu, warns):
    from exporter.verify.runtimes import onnxruntime

    monkeypatch.setattr(onnxruntime, "processor", lambda: cpu)
    assert ("VNNI" in found("onnxruntime").detail) is warns


def test_arm64_before_its_setup(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGE_EXPORT_CACHE", str(tmp_path))
    finding = found("arm64")
    assert (finding.state, finding.remedy) == ("absent", "edge-export setup arm64")
    assert not finding.needed


def test_arm64_after_its_setup(arm64):
    finding = found("arm64")
    assert finding.state == "ready"
    for said in ("qemu-aarch64 7.2.", "ai-edge-litert ", "onnxruntime ", "tflite-runtime 2.14.0"):
        assert said in finding.detail


@pytest.mark.parametrize(
    ("runtimes", "said"),
    [({"ai-edge-litert": "1.0"}, "other runtimes than this machine"), ({}, "No such file")],
)
def test_arm64_that_cannot_run(monkeypatch, tmp_path, runtimes, said):
    monkeypatch.setenv("EDGE_EXPORT_CACHE", str(tmp_path))
    (tmp_path / "arm64").mkdir()
    write_setup(Setup(emulator="qemu-aarch64 7.2.22", runtimes=runtimes))
    finding = found("arm64")
    assert (finding.state, finding.remedy) == ("broken", "edge-export setup arm64")
    assert said in finding.detail


def test_the_cache_counts_checkpoints_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGE_EXPORT_CACHE", str(tmp_path))
    (tmp_path / "weights.pth").write_bytes(bytes(3000))
    (tmp_path / "arm64").mkdir()
    (tmp_path / "arm64/setup.json").write_text("{}")
    assert "1 checkpoint," in found("cache").detail
