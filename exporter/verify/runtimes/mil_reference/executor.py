"""Runs a saved .mlpackage with torch: the file alone, read by this folder's own readers.

It proves what the file says: parameters, topology, attributes, serialisation. It is no prediction of Apple's
arithmetic, and no runtime: it has no latency.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from exporter.errors import RuntimeUnavailable, UnsupportedError
from exporter.threads import one_thread
from exporter.verify.runtimes.litert import TensorInfo, match
from exporter.verify.runtimes.mil_reference.compile import compile_program
from exporter.verify.runtimes.mil_reference.features import from_feature, input_info, output_info
from exporter.verify.runtimes.mil_reference.package import read_package
from exporter.verify.runtimes.mil_reference.program import Program
from exporter.verify.runtimes.mil_reference.suppression import Suppression

NAME = "reference executor (not Core ML)"


class MilReference:
    """A loaded .mlpackage: an ML program, or a pipeline of programs and non-maximum suppression.

    `starts` names, for an input of the file, a value of its program to feed instead, such as the normalised picture
    behind an image; values that the program does not have are ignored. Raises DataError (missing, foreign or broken
    file), UnsupportedError (a model of another kind, an op without a meaning), RuntimeUnavailable (no coremltools
    installed, whose schema it needs).
    """

    def __init__(self, path: Path, *, starts: Mapping[str, str] | None = None) -> None:
        package = read_package(path)
        self.path = Path(path)
        self.runtime = NAME
        self.description = package.model.description
        self.stages = tuple(_stage(package, model) for model in _models(package.model))
        self.program = next(stage for stage in self.stages if isinstance(stage, Program))
        self.kernels = "torch, float16 by rounding every result" if self.computes_in_float16 else "torch, float32"
        self.version: int = package.model.specificationVersion
        self.others = tuple("nonMaximumSuppression" for stage in self.stages if not isinstance(stage, Program))
        """Stages of a pipeline that are no programs."""
        self._starts = {name: start for name, start in (starts or {}).items() if start in self.program.types}
        self._features = {feature.name: feature for feature in self.description.input}
        self.pictures = frozenset(f.name for f in self.description.input if f.type.WhichOneof("Type") == "imageType")
        """Names of the inputs that are images in the file."""
        self.inputs = tuple(
            TensorInfo(self._starts[f.name], self.program.types[self._starts[f.name]].shape or (), "float32")
            if f.name in self._starts
            else input_info(f)
            for f in self.description.input
            if not f.type.isOptional
        )
        self.outputs = tuple(output_info(feature, self.program) for feature in self.description.output)

    @property
    def computes_in_float16(self) -> bool:
        """Whether any value is, that is more than a copy of an input or output."""
        return any(kind.dtype == "float16" for step in self.program.steps if step.op != "cast" for kind in step.types)

    def run(self, inputs: Mapping[str, np.ndarray] | Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """One inference, by name or in the order of `self.inputs`: float32 arrays, pictures as uint8 [H, W, 3] RGB.

        By name, optional inputs and values of the first program (to start there) may be given too.
        """
        names = [info.name for info in self.inputs]
        if not isinstance(inputs, Mapping) or inputs.keys() <= set(names):
            inputs = dict(zip(names, match(self.inputs, inputs), strict=True))
        return self.run_forced(inputs, {})

    def run_forced(self, inputs: Mapping[str, np.ndarray], given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs, and what the first program computed for the values of `given`; see `Program.run`."""
        values: dict[str, np.ndarray] = {}
        started: dict[str, np.ndarray] = {}
        for name, array in inputs.items():
            if name in self._features:
                values[name] = from_feature(self._features[name], array)
            else:
                started[name] = array
        with one_thread():  # most ops are small: threads that wait for the next one cost as much again
            for stage in self.stages:
                if isinstance(stage, Program):
                    fed = {name: values[name] for name in stage.inputs if name in values}
                    values |= stage.run(fed, {**started, **given} if stage is self.program else {})
                else:
                    values |= stage.run(values)
        wanted = {info.name for info in self.outputs} | set(given)
        return {name: array for name, array in values.items() if name in wanted}

    def latency(self, inputs: object, *, runs: int = 50, warmup: int = 10) -> NoReturn:
        """None: raises RuntimeUnavailable."""
        raise RuntimeUnavailable(
            f"the {NAME} has no latency", why="it is torch with every result rounded", try_="time the file on a Mac"
        )


def _models(model: Any) -> list[Any]:
    kind = model.WhichOneof("Type")
    return list(model.pipeline.models) if kind == "pipeline" else [model]


def _stage(package: Any, model: Any) -> Program | Suppression:
    kind = model.WhichOneof("Type")
    if kind == "mlProgram":
        return compile_program(package, model.mlProgram)
    if kind == "nonMaximumSuppression":
        return Suppression(model)
    raise UnsupportedError(
        f"the reference executor runs ML programs, and {package.path.name} holds a {kind}",
        try_="convert it with minimum_deployment_target=ct.target.iOS15 or later",
    )
