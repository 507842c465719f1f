"""Ops without a fast int8 kernel, as ops that have one: the same integers in every format.

XNNPACK joins a chain of elementwise int8 ops, each of one activation and single numbers (or of what the chain has made
before), into one lookup table: up to 10 ops, filled by running their own kernels on all 256 codes. So a chain's
integers are those of its ops, and 10^6 elements cost 0.15 ms, however long it is. Source: XNNPACK src/subgraph.c
(xnn_subgraph_fuse_unary_quantized_into_lut). Milliseconds here: one thread of an AVX2 machine, LiteRT 2.3.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from exporter.ir.graph import Graph, Node, Value
from exporter.ir.ops import Pads, uncounted
from exporter.ir.quant import fp16_grid
from exporter.quantize.calibrate import Ranges

SIX = 255 * fp16_grid(6 / 255)
"""The top code of [0, 6] at the nearest scale of the grid: 5.99991. At the next above, gates would reach 1.0013."""


@dataclass(frozen=True)
class Expansion:
    """Where the ops that replace `node` go. `ranges` receives those of their intermediate values."""

    graph: Graph
    node: Node
    ranges: Ranges

    def emit(self, op: str, *inputs: Value, within: tuple[float, float] | None = None, **attrs: Any) -> Value:
        """One op ahead of the node; `within` is the range of its result, which no calibration has seen."""
        value = self.graph.emit(op, inputs, source=self.node.source, at=self.node, **attrs)
        if within is not None:
            self.ranges[value.name] = within
        return value

    def constant(self, content: float | Tensor) -> Value:
        """A constant operand or weight."""
        return self.graph.constant(f"{self.node.output.name}/const", torch.as_tensor(content, dtype=torch.float32))


Expand = Callable[[Expansion, Value], Value]
EXPANSIONS: dict[str, Expand] = {}
"""Op name -> the function that writes what replaces it, from its first operand."""


def expand(graph: Graph, ranges: Ranges, floats: Container[Node] = ()) -> None:
    """Replace every op of `EXPANSIONS` but `floats` and the float tail. The result keeps its value's name and range."""
    tail = graph.tail()
    for node in [n for n in graph.nodes if n.op.name in EXPANSIONS and n not in tail and n not in floats]:
        old = node.output
        new = EXPANSIONS[node.op.name](Expansion(graph, node, ranges), node.inputs[0])
        graph.replace_all_uses(old, new)
        graph.remove(node)
        new.name, old.name = old.name, new.name
    graph.prune()


def expansion(run: Expand) -> Expand:
    """Register the decorated function for the op of its name."""
    EXPANSIONS[run.__name__] = run
    return run


@expansion
def silu(e: Expansion, x: Value) -> Value:
    """x * sigmoid(x)."""
    return e.emit("mul", x, e.emit("sigmoid", x), activation="none")


@expansion
def hard_swish(e: Expansion, x: Value) -> Value:
    """x * (relu6(x + 3) * (1 / 6)): 0.15 ms per 10^6 elements, TFLite's HARD_SWISH 5.2.

    SNR on normal values of deviation 1, 2 and 4: 37.7, 39.7 and 39.4 dB; HARD_SWISH's, and that of an exact table, is
    0.1 higher at most.
    """
    gate = e.emit("add", x, e.constant(3.0), within=(0.0, SIX), activation="relu6")
    gate = e.emit("mul", gate, e.constant(1 / 6), within=(0.0, SIX / 6), activation="none")
    return e.emit("mul", x, gate, activation="none")


MISH = (0.0092, 0.095, 1.3326, 0.4193)
"""Cubic in x for x + softplus(x - log 2) on [-5.6, 3.1], least squares weighted by what it changes in the result."""
MISH_REACH = (-5.6, 3.1)
"""Beyond it the sigmoid is 0 or 1 in int8."""


@expansion
def mish(e: Expansion, x: Value) -> Value:
    """x * sigmoid(x + softplus(x - log 2)), which is mish exactly, with a cubic in the sigmoid: one lookup table.

    Beyond MISH_REACH the codes of the polynomial saturate. At most 1.5 codes from mish; SNR on normal values of
    deviation 1.5, in brackets the best that 256 codes can do: x in [-2, 2] 46.1 dB (48.7), [-4, 4] 46.0 (47.1),
    [-10, 10] 38.8 (39.5). Where nearly all of x is negative the sigmoid's step of 1/256 shows, as in SiLU.
    """
    low, high = e.ranges.get(x.name, MISH_REACH)
    points = torch.linspace(max(min(low, 0.0), MISH_REACH[0]), min(max(high, 0.0), MISH_REACH[1]), 500)
    first, *others = MISH
    gate, values = e.constant(first), torch.tensor(first)
    for coefficient in others:
        values = values * points
        gate = e.emit("mul", x, gate, within=_range(values), activation="none")
        values = values + coefficient
        gate = e.emit("add", gate, e.constant(coefficient), within=_range(values), activation="none")
    return e.emit("mul", x, e.emit("sigmoid", gate), activation="none")


@expansion
def avg_pool2d(e: Expansion, x: Value) -> Value:
    """A depthwise convolution with equal weights; padding that is not counted, times area / elements inside.

    3x3 at stride 1 over 56x56x64: 0.17 ms, TFLite's AVERAGE_POOL_2D 1.09; 2x2 at stride 2 over 112x112x64: 0.21 and
    1.06. XNNPACK has depthwise kernels of up to 25 taps (capture splits larger windows into rows and columns). The
    convolution has an output range of its own: on normal values 38 dB against AVERAGE_POOL_2D's 33 (2x2), 38 against
    30 (3x3), 37 against 31 (3x3, padding not counted).
    """
    kernel, stride, padding = (e.node.attrs[name] for name in ("kernel", "stride", "padding"))
    channels, area = x.shape[1], kernel[0] * kernel[1]
    leaves_out = any(padding)
    if not leaves_out and x.producer is not None and (zeros := _zero_pad(e.graph, x.producer)):
        x, padding = x.producer.inputs[0], zeros
    low, high = e.ranges.get(e.node.output.name, (0.0, 0.0))
    mean = e.emit(
        "conv2d", x, e.constant(torch.full((channels, 1, *kernel), 1 / area)), e.constant(torch.zeros(channels)),
        within=(min(low, 0.0), max(high, 0.0)) if leaves_out else None,
        stride=stride, padding=padding, dilation=(1, 1), groups=channels, activation="none",
    )  # fmt: skip
    if not leaves_out:
        return mean
    share = uncounted(torch.empty(1, 1, *x.shape[2:]), kernel, stride, padding)
    return e.emit("mul", mean, e.constant(share), activation="none")


def _zero_pad(graph: Graph, node: Node) -> Pads | None:
    """How far a node pads an image with zeros, for one reader alone: a convolution does that by itself."""
    if node.op.name != "pad" or node.attrs["value"] != 0 or graph.only_consumer(node.output) is None:
        return None
    (n0, c0, top, left), (n1, c1, bottom, right) = node.attrs["before"], node.attrs["after"]
    return None if any((n0, n1, c0, c1)) else (top, bottom, left, right)


def _range(values: Tensor) -> tuple[float, float]:
    return float(values.min()), float(values.max())
