"""What localisation finds: the error of every layer of an int8 graph, and what it does to the outputs."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from exporter.ir.graph import Source


@dataclass(frozen=True)
class LayerError:
    """What one layer adds. SNRs are in dB against the float model, infinite where there is no error.

    Effects are shares of the power of the output error, every output counting alike: of all the layers' they sum up to
    about 1.
    """

    value: str
    """Name of its result, in the float graph and in the int8 graph."""
    op: str
    source: Source
    own_snr: float
    inherited_snr: float
    """Of what reached it from before: the error of its result in a run of the int8 graph, less its own, in power."""
    effect: float
    weights_effect: float
    """The part of `effect` that rounded weights make; the rest is the result's range and rounding."""
    measured: bool
    """Whether the effect was measured, not estimated."""
    clipped: float
    """Share of the elements of its result that lie outside the range of its codes."""
    clipping: float
    """Share of the power of its own error in these."""
    codes: int
    """How many codes its result spans, 256 at most."""
    spread: float
    """Its largest element per the median over channels of their largest: how much wider one range is than a channel."""
    readers: tuple[str, ...]
    """Values of the layers that read its result."""
    moves: bool
    """It moves codes and adds nothing."""


@dataclass(frozen=True)
class Localization:
    """All layers, that of most effect first, and the outputs' own figures."""

    layers: tuple[LayerError, ...]
    order: tuple[str, ...]
    """Values of all layers in execution order."""
    snr: dict[str, float]
    """Output -> dB of the int8 graph against the float one, pooled over the samples."""
    coded: frozenset[str]
    """Values that leave the graph as codes."""

    @property
    def output_snr(self) -> float:
        """dB of all outputs, each normalised by its own power."""
        return decibels(1.0, sum(10 ** (-snr / 10) for snr in self.snr.values()) / max(len(self.snr), 1))

    @property
    def accounted(self) -> float:
        """dB between the sum of all effects and the error that the outputs have: 0 where they agree."""
        return decibels(sum(layer.effect for layer in self.layers), 1.0)

    def expected_snr(self, kept: Collection[str]) -> float:
        """`output_snr` as it is to be expected with the layers of these values in float.

        A kept layer has no rounded weights; its result is not rounded either where all that read it are kept too.
        """
        left = total = 0.0
        for layer in self.layers:
            kept_here = layer.value in kept or layer.op == "quantize"  # it goes with its readers
            joined = kept_here and layer.value not in self.coded and all(reader in kept for reader in layer.readers)
            total += layer.effect
            left += (not kept_here) * layer.weights_effect + (not joined) * (layer.effect - layer.weights_effect)
        return self.output_snr + decibels(total, left)

    def region(self, value: str) -> set[str]:
        """The layers to keep in float that rid the outputs of most of one layer's own error, by value: itself, and
        those that read its result, unless its weights are to blame.
        """
        by_value = {layer.value: layer for layer in self.layers}
        found, todo = {value}, [value]
        if by_value[value].weights_effect > by_value[value].effect / 2:
            return found
        while todo:
            for reader in by_value[todo.pop()].readers:
                if reader not in found:
                    found.add(reader)
                    todo += [reader] if by_value[reader].moves else []
        return found


def decibels(signal: float, error: float) -> float:
    """Of two powers; infinite where there is no error."""
    if not error:
        return math.inf
    return 10 * math.log10(signal / error) if signal else -math.inf
