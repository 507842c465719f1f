"""Quantisation parameters as frozen data. The integer contract is the TFLite 8-bit quantization specification."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

LIMITS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767), "int32": (-(2**31), 2**31 - 1)}
TORCH_DTYPES = {"int8": torch.int8, "uint8": torch.uint8, "int16": torch.int16, "int32": torch.int32}
MIN_SCALE = 2.0**-14
"""Smallest scale written: the smallest normal float16, so that Core ML's float16 scales stay exact (DESIGN.md §4)."""


@dataclass(frozen=True, slots=True)
class QuantParams:
    """`real = scale * (code - zero_point)`, per tensor (`axis` None) or per slice along `axis` (zero point 0).

    `scale` holds one float per slice; every one is a float32 value. `dtype` is int8, uint8, int16 or int32.
    """

    scale: tuple[float, ...]
    zero_point: int = 0
    axis: int | None = None
    dtype: str = "int8"

    def __post_init__(self) -> None:
        low, high = LIMITS[self.dtype]
        if not self.scale or not all(np.isfinite(s) and s > 0 for s in self.scale):
            raise ValueError(f"scales must be finite and positive, got {self.scale[:4]}")
        if self.axis is None and len(self.scale) != 1:
            raise ValueError(f"{len(self.scale)} scales need an axis")
        if self.axis is not None and self.zero_point != 0:
            raise ValueError("per-channel parameters are symmetric: zero point 0")
        if not low <= self.zero_point <= high:
            raise ValueError(f"zero point {self.zero_point} outside {self.dtype}")

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest code of the dtype."""
        return LIMITS[self.dtype]

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest real value of a per-tensor code."""
        low, high = self.limits
        return (low - self.zero_point) * self.scale[0], (high - self.zero_point) * self.scale[0]

    def scale_like(self, x: Tensor) -> Tensor:
        """The scales as float32, shaped to broadcast against `x`."""
        scale = torch.tensor(self.scale, dtype=torch.float32)
        if self.axis is None:
            return scale[0]
        return scale.reshape([-1 if d == self.axis else 1 for d in range(x.dim())])

    def quantize(self, x: Tensor) -> Tensor:
        """float32 -> codes: x·(1/scale) in float32, round half to even, add the zero point, saturate.

        The product with the float32 reciprocal is what XNNPACK's f32-qs8 convert kernels do; a division differs
        in the last bit and flips codes at ties.
        """
        low, high = self.limits
        codes = torch.round(x.float() * (1.0 / self.scale_like(x))) + self.zero_point
        return codes.clamp(low, high).to(TORCH_DTYPES[self.dtype])

    def dequantize(self, codes: Tensor) -> Tensor:
        """Codes -> float32."""
        return (codes.to(torch.int32) - self.zero_point).float() * self.scale_like(codes)


def fp16_grid(scale: float, *, up: bool = False) -> float:
    """The float16 value nearest `scale` (or the next one not below it, with `up`), at least `MIN_SCALE`.

    Every format stores this value exactly, in float16 or float32 (DESIGN.md §4).
    """
    half = np.float16(max(scale, MIN_SCALE))
    if up and float(half) < scale:
        half = np.nextafter(half, np.float16(np.inf))
    return float(half)
