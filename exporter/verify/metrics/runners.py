"""What an evaluation runs: eager PyTorch first, then each target's files."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import nn

from exporter.verify.codes import output_params, reals
from exporter.verify.comparison import Artifact, reference_outputs
from exporter.verify.metrics.evaluate import Runner
from exporter.verify.metrics.protocol import Tensors
from exporter.verify.target import TargetFiles


def runners(module: nn.Module, targets: Iterable[TargetFiles]) -> Iterator[Runner]:
    """PyTorch's float model, then for each target the float32 twin, where there is one, and the shipped file."""

    def reference(samples: Sequence[Tensors]) -> Iterator[Tensors]:
        return (reference_outputs(module, sample)[0] for sample in samples)

    yield Runner("PyTorch", f"torch {torch.__version__}", reference)
    for files in targets:
        for artifact in reversed(files.artifacts):
            yield of_file(files.target, artifact)


def is_quick(target: str) -> bool:
    """Whether files of a format run here on a runtime of their own. Core ML's do on a Mac alone; its reference executor
    takes seconds for a picture.
    """
    return target != "coreml" or sys.platform == "darwin"


def of_file(target: str, artifact: Artifact) -> Runner:
    """A file on the runtime that is sound on this host."""
    file, params = artifact.opened, output_params(artifact.graph)

    def run(samples: Sequence[Tensors]) -> Iterator[Tensors]:
        for sample in samples:
            results = file.fetch(file.runtime.run(file.feed(sample)))
            yield [reals(result, of) for result, of in zip(results, params, strict=True)]

    runtime = f"{file.runtime.runtime} ({file.runtime.kernels})"
    return Runner(artifact.precision, runtime, run, target, artifact.shipped)
