"""What `doctor` finds on machines other than this one."""

import importlib.util
import platform
import sys
from importlib.machinery import ModuleSpec

import pytest

from exporter.report.doctor import doctor


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
