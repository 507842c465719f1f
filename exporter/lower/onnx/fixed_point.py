"""Ops whose int8 kernels count in fixed point: a float runtime between the pairs gives XNNPACK's integers all the same.

The kernels multiply by factors of 8 fractional bits, interpolate with weights of 11, round halves up, and cut roots
off; QuantizeLinear rounds the exact product to the nearest, halves to even. So the factor that the kernel uses is
multiplied in, and the sum moved by less than a fraction of the kernel has bits: halves then round as the kernel's do.
Without it, 1 to 7 % of the codes of these ops are one beside those of the other formats.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from exporter.ir.graph import Node
from exporter.ir.integer.tables import slopes
from exporter.ir.integer.windows import bilinear_taps
from exporter.lower.onnx.emit import Emitter, spelling

HALF_UP = 2.0**-10
"""In codes: less than the least 256th, and more than float32 is off."""
HALF_UP_11 = 2.0**-13
"""The same for interpolated codes, whose fractions are finer."""
UPWARDS = 1 + 2.0**-18
"""A factor that does the same: it moves code 255 by less than a 256th, and any half by more than float32 is off."""
CUT = 0.5 - 2.0**-12
"""What is taken off a number of codes so that rounding cuts it off."""


# --- rescaled codes ---------------------------------------------------------------------------------------------------
@spelling
def relu(e: Emitter, node: Node) -> None:
    e.op("Relu", node, [_rescaled(e, node)])


@spelling
def relu6(e: Emitter, node: Node) -> None:
    e.op("Clip", node, [_rescaled(e, node), e.number(0), e.number(6)])


@spelling
def clamp(e: Emitter, node: Node) -> None:
    """A bound at infinity is left out."""
    bounds = (node.attrs[name] for name in ("low", "high"))
    e.op("Clip", node, [_rescaled(e, node), *(e.number(b) if math.isfinite(b) else "" for b in bounds)])


@spelling
def quantize(e: Emitter, node: Node) -> None:
    """Of codes with other parameters too: back to float, and to the new codes."""
    assert node.output.quant is not None
    e.quantized(_rescaled(e, node), node.output.quant, e.name(node.output))


@spelling
def leaky_relu(e: Emitter, node: Node) -> None:
    """Positive and negative numbers have a factor each, which round their halves up."""
    x, slope = e.read(node.inputs[0]), node.attrs["negative_slope"]
    if rounded := _slopes(node, slope):
        below, above = _real_factors(node, rounded)
        below, above = below * UPWARDS ** -math.copysign(1, below), above * UPWARDS
        x, slope = e.between("Mul", node, [x, e.number(above)]), below / above
    e.op("LeakyRelu", node, [x], alpha=slope)


def _rescaled(e: Emitter, node: Node) -> str:
    """The operand; where codes become codes of another scale, times the kernel's factor, halves moved up."""
    x, out, rounded = e.read(node.inputs[0]), node.output.quant, _slopes(node)
    if rounded is None or out is None:
        return x
    factor = _real_factors(node, rounded)[1]
    if factor != 1:
        x = e.between("Mul", node, [x, e.number(factor)])
    whole = rounded[1] % 256 == 0
    return x if whole else e.between("Add", node, [x, e.number(HALF_UP * out.scale[0])])


def _slopes(node: Node, negative_slope: float = 1.0) -> tuple[int, int] | None:
    """The kernel's factors in 256ths; None in float, and where it has more bits."""
    x, out = node.inputs[0].quant, node.output.quant
    return slopes(x, out, negative_slope) if x and out else None


def _real_factors(node: Node, rounded: tuple[int, int]) -> tuple[float, float]:
    """What they do to reals."""
    x, out = node.inputs[0].quant, node.output.quant
    assert x is not None
    assert out is not None
    below, above = (factor * out.scale[0] / (256 * x.scale[0]) for factor in rounded)
    return below, above


# --- roots and images -------------------------------------------------------------------------------------------------
@spelling
def sqrt(e: Emitter, node: Node) -> None:
    x, out = e.read(node.inputs[0]), node.output.quant
    if out is None:
        e.op("Sqrt", node, [x])
    else:
        e.op("Sub", node, [e.between("Sqrt", node, [x]), e.number(CUT * out.scale[0])])


@spelling
def resize_bilinear(e: Emitter, node: Node) -> None:
    """In int8 the kernel's weights are multiples of 2^-11: where the exact ones are not, rows and columns are weighted
    sums, spelled as products with the matrices of these weights.
    """
    x, out, aligned = node.inputs[0], node.output.quant, node.attrs["align_corners"]
    sizes = list(zip(x.shape[2:], node.attrs["size"], strict=True))
    if out is None or all(_on_grid(*pair, aligned) for pair in sizes):
        operands = [e.read(x), "", "", e.integers(*node.output.shape)]
        how = {"mode": "linear", "coordinate_transformation_mode": "align_corners" if aligned else "half_pixel"}
        if out is None:
            e.op("Resize", node, operands, **how)
            return
        resized = e.between("Resize", node, operands, **how)
    else:
        rows, columns = (_weights(*pair, aligned) for pair in sizes)
        across = e.between("MatMul", node, [e.read(x), e.constant(columns.T, f"{x.name}/columns")])
        resized = e.between("MatMul", node, [e.constant(rows, f"{x.name}/rows"), across])
    e.op("Add", node, [resized, e.number(HALF_UP_11 * out.scale[0])])


def _on_grid(source: int, target: int, aligned: bool) -> bool:
    """Whether the weights are multiples of 2^-11 without rounding: whether the step is a multiple of 2^-10."""
    corner = int(aligned and target > 1)
    return 1024 % Fraction(source - corner, target - corner).denominator == 0


def _weights(source: int, target: int, aligned: bool) -> np.ndarray:
    """[target, source] float32: the kernel's weights of each source row in each row of the result."""
    first, second, weight = bilinear_taps(source, target, aligned)
    matrix = np.zeros((target, source), np.float32)
    np.add.at(matrix, (np.arange(target), first.numpy()), 1 - weight.numpy() / np.float32(2048))
    np.add.at(matrix, (np.arange(target), second.numpy()), weight.numpy() / np.float32(2048))
    return matrix
