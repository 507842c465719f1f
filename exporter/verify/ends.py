"""The ends of an int8 output's codes: outputs that never change, and codes at an end where PyTorch's values are not."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from exporter.ir.quant import LIMITS, QuantParams

FAR = 16
"""Steps from an end, a 16th of all codes: a float value that far inside does not explain a code at the end."""
MOST_SATURATED = 0.02
"""Share of such codes that goes without a warning."""


class Ends:
    """What one int8 output gave over all samples."""

    def __init__(self, output: str, params: QuantParams) -> None:
        self.output, self._params = output, params
        self._codes, self._reals = [math.inf, -math.inf], [math.inf, -math.inf]
        self._count = self._saturated = 0

    def add(self, codes: Tensor, reference: Tensor | None) -> None:
        """One sample's codes, and PyTorch's float32 values (None: unknown)."""
        _stretch(self._codes, codes)
        if reference is None:
            return
        _stretch(self._reals, reference)
        scale, zero_point = self._params.scale[0], self._params.zero_point
        place = reference.double() / scale + zero_point
        low, high = LIMITS[self._params.dtype]
        for end in (low, high):
            self._saturated += int(((codes == end) & ((place - end).abs() > FAR)).sum())
        self._count += codes.numel()

    def warnings(self) -> list[str]:
        """That it is dead, or saturates."""
        (low, high), (least, most) = self._codes, self._reals
        if low == high and least != most:
            floats = f", and PyTorch's values span [{least:.4g}, {most:.4g}]" if self._count else ""
            return [f"output {self.output} has one code on every sample: it carries no information in int8{floats}"]
        if self._saturated <= MOST_SATURATED * self._count:
            return []
        share = f"{100 * self._saturated / self._count:.1f} % of its codes stand at an end"
        start, stop = self._params.range
        told = f"output {self.output} saturates: {share} of [{start:.4g}, {stop:.4g}]"
        return [f"{told}, and PyTorch's values there lie more than {FAR} steps away"]


def _stretch(ends: list[float], tensor: Tensor) -> None:
    low, high = torch.aminmax(tensor)
    ends[:] = min(ends[0], low.item()), max(ends[1], high.item())
