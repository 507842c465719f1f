"""What a classifier ends in."""

from __future__ import annotations

from torch import Tensor

from exporter.verify.runtimes.mil_reference.ops.registry import mil


@mil()
def classify(probabilities: Tensor, classes: list[str]) -> tuple[str, Tensor]:
    """The class of the largest probability; and all of them, in the order of the classes."""
    row = probabilities.flatten()
    return classes[int(row.argmax())], row
