"""Codes and reals: quantize and dequantize, and the constants that are stored compressed."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from exporter.verify.runtimes.mil_reference.ops.registry import mil

LIMITS = {"int8": (-128, 127), "uint8": (0, 255)}
CODES = {"int8": torch.int8, "uint8": torch.uint8}


def _along(x: Tensor, parameter: Tensor, axis: int | None) -> Tensor:
    """A scalar or a vector along `axis`, as float32 to broadcast against x."""
    shape = [1] * x.dim()
    if parameter.dim() and axis is not None:
        shape[axis] = -1
    return parameter.float().reshape(shape)


@mil(exact=True)
def quantize(
    input: Tensor, scale: Tensor, output_dtype: str, zero_point: Tensor | None = None, axis: int | None = None
) -> Tensor:
    """clip(round(input · (1 / scale)) + zero point), halves to even, the product and its factor in float32.

    The definition says input / scale. A quotient differs from the product in the last bit for some scales, and where
    one of the two is a tie, in the code; the product is what XNNPACK computes and so what the codes of the other
    formats rest on. See tests/verify/mil_reference for how often they part.
    """
    codes = (input * (1.0 / _along(input, scale, axis))).round_()
    if zero_point is not None:
        codes.add_(_along(input, zero_point, axis))
    return codes.clamp_(*LIMITS[output_dtype]).to(CODES[output_dtype])


@mil("dequantize")
def dequantize(input: Tensor, scale: Tensor, zero_point: Tensor | None = None, axis: int | None = None) -> Tensor:
    """scale · (input - zero point)."""
    return _reals(input, _along(input, scale, axis), None if zero_point is None else _along(input, zero_point, axis))


def _reals(codes: Tensor, scale: Tensor, zero_point: Tensor | None) -> Tensor:
    """A float tensor of its own, which nobody else has seen."""
    reals = codes.to(torch.float32, copy=True)
    return (reals if zero_point is None else reals.sub_(zero_point)).mul_(scale)


@mil()
def constexpr_affine_dequantize(quantized_data: Tensor, zero_point: Tensor, scale: Tensor, axis: int) -> Tensor:
    """dequantize of a constant (iOS 16)."""
    return dequantize(quantized_data, scale, zero_point, axis)


@mil()
def constexpr_blockwise_shift_scale(data: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
    """scale · (data - offset), one of each per block of as many elements as data has more than scale (iOS 18)."""

    def spread(parameter: Tensor) -> Tensor:
        parameter = parameter.float()
        for axis, (size, count) in enumerate(zip(data.shape, scale.shape, strict=True)):
            parameter = parameter.repeat_interleave(size // count, axis) if 1 < count < size else parameter
        return parameter

    return _reals(data, spread(scale), None if offset is None else spread(offset))


@mil(exact=True)
def constexpr_cast(source_val: Tensor, output_dtype: str) -> Tensor:
    """float16 to float32: nothing is lost."""
    return source_val


def _bits(packed: Tensor, width: int, count: int) -> Tensor:
    """`count` numbers of `width` bits each, lowest bits first."""
    bits = (packed.reshape(-1, 1).int() >> torch.arange(8)) & 1
    return (bits.reshape(-1)[: count * width].reshape(count, width) << torch.arange(width)).sum(1)


@mil(exact=True)
def constexpr_lut_to_dense(
    indices: Tensor, lut: Tensor, shape: list[int] | None = None, vector_axis: int | None = None
) -> Tensor:
    """A table and packed indices into it (iOS 16)."""
    assert shape is not None
    width = int(math.log2(lut.numel()))
    return lut[_bits(indices, width, math.prod(shape))].reshape(shape)


@mil(exact=True)
def constexpr_sparse_to_dense(nonzero_data: Tensor, mask: Tensor, shape: list[int] | None = None) -> Tensor:
    """Zeros but for the elements whose bit is set (iOS 16)."""
    assert shape is not None
    dense = torch.zeros(math.prod(shape), dtype=nonzero_data.dtype)
    dense[_bits(mask, 1, dense.numel()).bool()] = nonzero_data
    return dense.reshape(shape)
