"""Meters that compare tensors sample by sample: SNR in dB, and int8 codes in LSB. Memory does not grow."""

from __future__ import annotations

import math
from statistics import median

import numpy as np
from torch import Tensor

from exporter.verify.results import Codes, Snr


class SnrMeter:
    """SNR of one output against a reference, pooled over samples and as the median of the samples' own figures."""

    def __init__(self, output: str) -> None:
        self.output = output
        self.signal = self.noise = self.max_error = 0.0
        self.each: list[float] = []

    def add(self, reference: Tensor, result: Tensor) -> None:
        """Take in one sample's float32 tensors, of equal shape."""
        difference = (reference - result).double()
        signal, noise = float(reference.double().square().sum()), float(difference.square().sum())
        self.signal, self.noise = self.signal + signal, self.noise + noise
        largest = float(difference.abs().max())
        self.max_error = largest if math.isnan(largest) else max(self.max_error, largest)
        self.each.append(decibel(signal, noise))

    def result(self) -> Snr:
        """The figures; infinity is given as None."""
        pooled, middle = decibel(self.signal, self.noise), median(self.each)
        return Snr(output=self.output, pooled=_finite(pooled), median=_finite(middle), max_error=self.max_error)


class CodeMeter:
    """int8 codes of one output against the integer interpreter's."""

    def __init__(self, output: str, arithmetic: str = "integer") -> None:
        self.output, self.arithmetic = output, arithmetic
        self.equal = self.count = self.max_lsb = 0

    def add(self, reference: Tensor, result: Tensor) -> None:
        """Take in one sample's codes, of equal shape."""
        ours, theirs = (tensor.reshape(-1).numpy() for tensor in (reference, result))
        wrong = np.flatnonzero(ours != theirs)
        apart = np.abs(ours[wrong].astype(np.int32) - theirs[wrong].astype(np.int32))
        self.equal += ours.size - wrong.size
        self.count += ours.size
        self.max_lsb = max(self.max_lsb, int(apart.max(initial=0)))

    def result(self) -> Codes:
        """The figures."""
        return Codes(
            output=self.output,
            arithmetic=self.arithmetic,
            equal=self.equal / self.count,
            max_lsb=self.max_lsb,
            count=self.count,
        )


def decibel(signal: float, noise: float) -> float:
    """10·log10(signal / noise); infinite without noise, minus infinite without signal or with infinite noise."""
    if not math.isfinite(noise):
        return -math.inf
    if signal == 0:
        return -math.inf if noise else math.inf
    return math.inf if noise == 0 else 10 * math.log10(signal / noise)


def _finite(value: float) -> float | None:
    return None if value == math.inf else value
