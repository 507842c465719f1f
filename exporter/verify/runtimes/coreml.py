"""Runs a .mlpackage on Core ML itself, which only macOS has, and asks it where each op would run.

Where Core ML is absent, loading ends in one RuntimeUnavailable. A file's own reading and its inputs and outputs are
those of the reference executor's readers: coremltools' are not asked for what it does not compute.
"""

from __future__ import annotations

import importlib
import logging
import platform
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
from PIL import Image

from exporter.errors import DataError, RuntimeUnavailable, UnsupportedError
from exporter.verify.devices.facts import Latency
from exporter.verify.runtimes.litert import TensorInfo, match
from exporter.verify.runtimes.mil_reference import MilReference
from exporter.verify.runtimes.timing import measure

Units = Literal["CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE"]
UNITS: tuple[Units, ...] = ("CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE")
"""What Core ML may use. On the CPU alone its int8 and float results are the same on every Mac."""


@dataclass(frozen=True)
class Placement:
    """Where Core ML would run one op of the program: the device it prefers, those that could, and the op's share of the
    estimated cost (None where Core ML estimates none, as for constants).
    """

    op: str
    output: str
    device: str
    supported: tuple[str, ...]
    cost: float | None


class CoreMLRuntime:
    """A .mlpackage loaded by Core ML. Raises RuntimeUnavailable (no Core ML on this host), DataError (a file that is
    broken or that Core ML cannot compile).
    """

    def __init__(self, path: Path, *, units: Units = "CPU_AND_NE") -> None:
        tools = load_runtime()
        described = MilReference(path)  # before Core ML sees it: every broken file has one message
        self.path, self.units = Path(path), units
        self.runtime = f"Core ML, macOS {platform.mac_ver()[0]} (coremltools {version('coremltools')})"
        self.kernels: str = units
        self.inputs: tuple[TensorInfo, ...] = described.inputs
        self.outputs: tuple[TensorInfo, ...] = described.outputs
        self._pictures = described.pictures
        self._unit = tools.ComputeUnit[units]
        self._model = _load(tools, self.path, self._unit, described.version)

    def run(self, inputs: Mapping[str, np.ndarray] | Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """One prediction: float32 arrays, pictures as uint8 [H, W, 3] RGB or [H, W] grey."""
        return self._arrays(self._model.predict(self._features(inputs)))

    def latency(
        self, inputs: Mapping[str, np.ndarray] | Sequence[np.ndarray], *, runs: int = 50, warmup: int = 10
    ) -> Latency:
        """Wall clock of `predict`, coremltools' copies in and out included. Core ML chooses its own threads: 0 here."""
        features = self._features(inputs)
        return measure(lambda: self._model.predict(features), runs=runs, warmup=warmup, threads=0)

    def placements(self) -> tuple[Placement, ...]:
        """Every op of the program that computes something, in order (macOS 14.4 and later)."""
        plans = silent_import("coremltools.models.compute_plan")
        plan = plans.MLComputePlan.load_from_path(self._model.get_compiled_model_path(), compute_units=self._unit)
        return tuple(placed for program in _programs(plan.model_structure) for placed in _placed(plan, program))

    def _features(self, inputs: Mapping[str, np.ndarray] | Sequence[np.ndarray]) -> dict[str, Any]:
        arrays = zip(self.inputs, match(self.inputs, inputs), strict=True)
        return {i.name: Image.fromarray(a) if i.name in self._pictures else a for i, a in arrays}

    def _arrays(self, results: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """As the reference executor gives them: labels as text, a dictionary as its values in the order of its keys."""
        return {
            info.name: np.array(list(found.values()), np.float64)
            if isinstance(found := results[info.name], dict)
            else np.asarray(found)
            for info in self.outputs
        }


def silent_import(name: str) -> ModuleType:
    """A module of coremltools. Raises RuntimeUnavailable where the package is absent."""
    logger = logging.getLogger("coremltools")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns of every part of Core ML that only a Mac has
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as error:
        raise RuntimeUnavailable(
            "coremltools is not installed", why=str(error), try_='pip install "edge-export[coreml]"'
        ) from error
    finally:
        logger.setLevel(level)


def load_runtime() -> Any:
    """coremltools with its bindings to Core ML. Raises RuntimeUnavailable with the reason."""
    if sys.platform != "darwin":
        raise RuntimeUnavailable(
            "Core ML is not on this host",
            why=f"it is a part of macOS, and this is {platform.system()}",
            try_="edge-export verify FOLDER on a Mac",
        )
    module = silent_import("coremltools")
    if silent_import("coremltools.models.model")._MLModelProxy is None:
        raise RuntimeUnavailable(
            "coremltools has no bindings to Core ML",
            why="this build of it was made for another system",
            try_='pip install --force-reinstall "edge-export[coreml]"',
        )
    return module


def _programs(structure: Any) -> list[Any]:
    """The programs of a model, or of a pipeline's parts."""
    if structure.pipeline is not None:
        parts = (part for _, part in structure.pipeline.sub_models)
        return [program for part in parts for program in _programs(part)]
    return [structure.program] if structure.program is not None else []


def _placed(plan: Any, program: Any) -> list[Placement]:
    """Ops that Core ML places nowhere (constants) are left out."""
    found = []
    for operation in program.functions["main"].block.operations:
        usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
        if usage is None:
            continue
        cost = plan.get_estimated_cost_for_mlprogram_operation(operation)
        found.append(
            Placement(
                op=operation.operator_name,
                output=operation.outputs[0].name,
                device=_device(usage.preferred_compute_device),
                supported=tuple(_device(device) for device in usage.supported_compute_devices),
                cost=None if cost is None else float(cost.weight),
            )
        )
    return found


def _device(device: Any) -> str:
    """`CPU`, `GPU` or `NeuralEngine`, of coremltools' MLCPUComputeDevice and its kin."""
    return type(device).__name__.removeprefix("ML").removesuffix("ComputeDevice")


def _load(tools: Any, path: Path, unit: Any, needed: int) -> Any:
    """coremltools warns where the framework refuses a file, and keeps its words."""
    known = tools.models.model._MLModelProxy.maximum_supported_specification_version()
    if needed > known:
        raise UnsupportedError(
            f"this macOS is too old for {path.name}",
            why=f"the file is of specification version {needed}, Core ML here knows {known}",
            try_="a newer macOS, or an older --min-os",
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = tools.models.MLModel(str(path), compute_units=unit)
    if model.__proxy__ is None:
        raise DataError(f"Core ML cannot load {path}", why=" ".join(str(model._framework_error).split()))
    return model
