"""What the MIL ops mean: one table, filled by the modules of this folder."""

from exporter.verify.runtimes.mil_reference.ops import (
    classes,
    elementwise,
    quantization,
    reductions,
    resizing,
    shapes,
    windows,
)
from exporter.verify.runtimes.mil_reference.ops.registry import OPS, Meaning

__all__ = ["OPS", "Meaning", "classes", "elementwise", "quantization", "reductions", "resizing", "shapes", "windows"]
