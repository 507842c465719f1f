"""The real Core ML runtime. On a Mac it runs; elsewhere it refuses, and its side of the protocol meets a stand-in for
coremltools' compiled binding to the framework, all else being coremltools' own. Not run on a Mac: those tests say so.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import coremltools
import numpy as np
import pytest
import torch
from coremltools.models import compute_device, compute_plan
from coremltools.models import model as models
from PIL import Image

from exporter.capture import capture
from exporter.errors import DataError, RuntimeUnavailable, UnsupportedError
from exporter.ir.graph import Graph
from exporter.lower.coreml import CoreML
from exporter.lower.facts import Facts
from exporter.simplify import simplify
from exporter.verify.coreml import OpenCoreML, open_runtime
from exporter.verify.runtimes import coreml
from exporter.verify.runtimes.coreml import UNITS, CoreMLRuntime
from exporter.verify.runtimes.mil_reference import MilReference

on_a_mac = pytest.mark.skipif(sys.platform != "darwin", reason="Core ML is a part of macOS")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, 2, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.conv(image).relu().mean((2, 3))


@pytest.fixture(scope="module")
def graph() -> Graph:
    torch.manual_seed(0)
    return simplify(capture(Net().eval(), (torch.zeros(1, 3, 16, 16),)))


@pytest.fixture
def package(graph: Graph, tmp_path: Path) -> Path:
    path = tmp_path / "net.mlpackage"
    CoreML().write(graph, path, Facts("net", "float32", mean=MEAN, std=STD))
    return path


PICTURE = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)


# --- the real one -----------------------------------------------------------------------------------------------------
@on_a_mac
@pytest.mark.parametrize("units", UNITS)
def test_core_ml_computes_what_the_file_says(units: Any, package: Path) -> None:
    runtime, reference = CoreMLRuntime(package, units=units), MilReference(package)
    (name,) = (info.name for info in runtime.outputs)
    ours, theirs = reference.run([PICTURE])[name], runtime.run([PICTURE])[name]
    np.testing.assert_allclose(theirs, ours, atol=1e-3 if units != "CPU_ONLY" else 1e-5)
    assert runtime.latency([PICTURE], runs=3, warmup=1).median_ms > 0
    assert {placed.op for placed in runtime.placements()} >= {"conv"}


@pytest.mark.skipif(sys.platform == "darwin", reason="here Core ML is present")
def test_elsewhere_it_is_unavailable(package: Path) -> None:
    with pytest.raises(RuntimeUnavailable, match="Core ML is not on this host") as refused:
        CoreMLRuntime(package)
    assert "macOS" in refused.value.why
    assert isinstance(open_runtime(package), MilReference)


# --- the protocol, against a stand-in; not run on a Mac ---------------------------------------------------------------
class Plan:
    """coremltools' _MLComputePlanProxy: one conv on the Neural Engine, a constant nowhere, the rest on the CPU."""

    def __init__(self, path: Path) -> None:
        operations = [
            compute_plan.MLModelStructureProgramOperation(
                {}, step, [compute_plan.MLModelStructureProgramNamedValueType(name, None)], [], None
            )
            for step, name in [("const", "weight"), *((s.op, s.outputs[0]) for s in MilReference(path).program.steps)]
        ]
        block = compute_plan.MLModelStructureProgramBlock([], operations, [])
        program = compute_plan.MLModelStructureProgram(
            {"main": compute_plan.MLModelStructureProgramFunction([], block)}
        )
        self.model_structure = compute_plan.MLModelStructure(None, program, None)

    def get_compute_device_usage_for_mlprogram_operation(self, operation: Any) -> Any:
        if operation.operator_name == "const":
            return None
        cpu = compute_device.MLCPUComputeDevice(Proxy())
        engine = compute_device.MLNeuralEngineComputeDevice(Proxy())
        conv = operation.operator_name == "conv"
        return compute_plan.MLComputePlanDeviceUsage(engine if conv else cpu, [cpu, engine] if conv else [cpu])

    def get_estimated_cost_for_mlprogram_operation(self, operation: Any) -> Any:
        return compute_plan.MLComputePlanCost(0.75) if operation.operator_name == "conv" else None


class Proxy:
    """coremltools' _MLModelProxy, computing with the reference executor."""

    version = 9
    loaded: tuple[str, ...] = ()

    def __init__(
        self, path: str = "", units: str = "", function: str = "", hints: Any = None, asset: Any = None
    ) -> None:
        self.path = path
        if path.endswith("refused.mlpackage"):
            raise RuntimeError("Error compiling model:\n  no such op")
        type(self).loaded = (*type(self).loaded, units)

    @classmethod
    def maximum_supported_specification_version(cls) -> int:
        return cls.version

    @staticmethod
    def get_compute_plan(path: str, units: str) -> Any:
        return compute_plan.MLComputePlan(Plan(Path(path)))

    def get_compiled_model_path(self) -> str:
        return self.path

    def predict(self, data: dict[str, Any], state: Any) -> dict[str, Any]:
        assert all(isinstance(given, Image.Image) and given.mode == "RGB" for given in data.values())
        return MilReference(Path(self.path)).run({name: np.asarray(given) for name, given in data.items()})


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> type[Proxy]:
    monkeypatch.setattr(coreml.sys, "platform", "darwin")
    monkeypatch.setattr(Proxy, "loaded", ())
    for module in (models, compute_plan):
        monkeypatch.setattr(module, "_MLModelProxy", Proxy)
    monkeypatch.setattr(models, "_is_macos", lambda: False)  # nor is there a version of macOS to ask for
    monkeypatch.setattr(compute_plan, "_MLComputePlanProxy", Plan)
    for name in ("_MLCPUComputeDeviceProxy", "_MLNeuralEngineComputeDeviceProxy"):
        monkeypatch.setattr(compute_device, name, Proxy)
    return Proxy


@pytest.mark.parametrize("units", UNITS)
def test_a_prediction_goes_through_pictures(units: Any, package: Path, mac: type[Proxy]) -> None:
    runtime = CoreMLRuntime(package, units=units)
    assert mac.loaded == (units,)
    assert runtime.kernels == units
    assert runtime.runtime.startswith("Core ML, macOS")
    results = runtime.run([PICTURE])
    for name, expected in MilReference(package).run([PICTURE]).items():
        assert np.array_equal(results[name], expected)
    timed = runtime.latency([PICTURE], runs=3, warmup=1)
    assert timed.runs == 3
    assert timed.median_ms > 0


def test_placements(package: Path, mac: type[Proxy]) -> None:
    placed = {p.op: p for p in CoreMLRuntime(package).placements()}
    assert "const" not in placed
    conv, mean = placed["conv"], placed["reduce_mean"]
    assert (conv.device, conv.supported, conv.cost) == ("NeuralEngine", ("CPU", "NeuralEngine"), 0.75)
    assert (mean.device, mean.supported, mean.cost) == ("CPU", ("CPU",), None)


def test_verification_runs_on_the_cpu_and_times_what_is_shipped(graph: Graph, package: Path, mac: type[Proxy]) -> None:
    """The sample is fed as the picture it came from: every pixel comes back."""
    opened = OpenCoreML(package, graph)
    assert mac.loaded == ("CPU_AND_NE", "CPU_ONLY")
    assert opened.shipped is not None
    sample = (PICTURE.astype(np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    tensor = torch.from_numpy(sample.transpose(2, 0, 1)[None].copy())
    (fed,) = opened.feed([tensor]).values()
    assert np.array_equal(fed, PICTURE)
    (result,) = opened.fetch(opened.runtime.run([fed]))
    assert torch.equal(result, opened.fetch(opened.reference.run([tensor.numpy()]))[0])


def test_a_file_that_the_framework_refuses_is_a_data_error(package: Path, mac: type[Proxy]) -> None:
    refused = package.rename(package.with_name("refused.mlpackage"))
    with pytest.raises(DataError, match="cannot load") as error:
        CoreMLRuntime(refused)
    assert error.value.why == "Error compiling model: no such op"


def test_an_old_system_is_named(package: Path, mac: type[Proxy], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Proxy, "version", 5)
    with pytest.raises(UnsupportedError, match="too old"):
        CoreMLRuntime(package)


def test_a_build_without_bindings(package: Path, mac: type[Proxy], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_MLModelProxy", None)
    with pytest.raises(RuntimeUnavailable, match="no bindings"):
        CoreMLRuntime(package)


def test_without_coremltools(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("coremltools", "coremltools.proto", "coremltools.libmilstoragepython"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "exporter.lower.coreml.schema")
    with pytest.raises(RuntimeUnavailable, match="coremltools is not installed"):
        MilReference(package)
    assert coremltools.__version__
