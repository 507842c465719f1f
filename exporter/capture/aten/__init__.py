"""The table from ATen ops to ours. One function is one ATen op (in-place forms share it); its parameters are the
schema's. An op that existing ops can express needs nothing but a function here.
"""

from exporter.capture.aten import (
    arithmetic,
    attention,
    axes,
    convolutions,
    detection,
    norms,
    resampling,
    sequences,
    shape,
    windows,
)
from exporter.capture.aten.table import ATEN, NOISE, Builder, Unsupported

__all__ = [
    "ATEN", "NOISE", "Builder", "Unsupported", "arithmetic", "attention", "axes", "convolutions", "detection",
    "norms", "resampling", "sequences", "shape", "windows",
]  # fmt: skip
