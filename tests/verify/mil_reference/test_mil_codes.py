"""Codes and compressed constants, against numpy and coremltools' own readers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mil_programs import PRECISIONS, check, computed, like, mb, program, save

from exporter.ir.quant import QuantParams, fp16_grid
from exporter.verify.runtimes.mil_reference import MilReference
from exporter.verify.runtimes.mil_reference.blobs import Blobs, unpack

R = np.random.default_rng(3)
X = R.uniform(-4, 4, (2, 3, 4, 5)).astype(np.float32)
CODES = R.integers(-127, 128, (3, 4, 2, 2)).astype(np.int8)
SCALES = np.array([fp16_grid(s) for s in (0.03, 0.0071, 0.5)], np.float32)
Q = {"int8": (np.int8, -3), "uint8": (np.uint8, 125)}


@pytest.mark.parametrize("dtype", Q)
def test_quantize_is_the_graphs_own(dtype: str) -> None:
    """x times the reciprocal in float32, halves to even: QuantParams.quantize, every code."""
    scale, (kind, zero_point) = fp16_grid(0.031), Q[dtype]
    x = (np.arange(-4000, 4000, dtype=np.float32) / 16 * np.float32(scale)).reshape(8, -1)

    def build(x: Any) -> Any:
        return mb.quantize(input=x, scale=like(x, scale), zero_point=kind(zero_point), output_dtype=dtype)

    (codes,) = computed(build, x)
    assert np.array_equal(codes, QuantParams((scale,), zero_point, dtype=dtype).quantize(torch.from_numpy(x)).numpy())
    assert len(np.unique(codes)) == 256


def test_quantize_without_zero_point_and_per_channel() -> None:
    (plain,) = computed(lambda x: mb.quantize(input=x, scale=np.float32(0.5), output_dtype="int8"), X)
    assert np.array_equal(plain, np.rint(X / 0.5))
    zeros = np.array([1, -2, 3], np.int8)

    def build(x: Any) -> Any:
        return mb.quantize(input=x, scale=SCALES, zero_point=zeros, axis=1, output_dtype="int8")

    (codes,) = computed(build, X)
    shape = (1, 3, 1, 1)
    expected = np.rint(X * (1 / SCALES).reshape(shape)) + zeros.reshape(shape).astype(np.float32)
    assert np.array_equal(codes, expected.clip(-128, 127))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_product_and_the_documented_quotient_differ_by_one_code_at_ties_alone(precision: str) -> None:
    """Over all scales of one octave of the float16 grid and all halves of codes: at most one apart, and only there."""
    halves = np.arange(-255, 256, dtype=np.float32) / 2
    apart = 0
    for scale in np.linspace(2.0**-6, 2.0**-5, 1025, dtype=np.float16)[:-1].astype(np.float32):
        x = (halves * scale).astype(precision).astype(np.float32)
        product, quotient = np.rint(x * (np.float32(1) / scale)), np.rint(x / scale)
        wrong = product != quotient
        apart += int(wrong.sum())
        assert np.abs(product - quotient).max() <= 1
        assert np.all(np.abs(halves[wrong] % 1) == 0.5)
    assert apart, "the two rules were never apart: the docstring of quantize says they are"


@pytest.mark.parametrize("precision", PRECISIONS)
def test_dequantize(precision: str) -> None:
    zeros = np.array([1, -2, 3], np.int8)

    def build(x: Any) -> Any:
        codes = mb.quantize(input=x, scale=like(x, 0.0625), output_dtype="int8")
        return mb.dequantize(input=codes, scale=like(x, SCALES), zero_point=zeros, axis=1)

    def expected(x: torch.Tensor) -> torch.Tensor:
        codes = torch.round(x / 0.0625).clamp(-128, 127)
        shape = (1, 3, 1, 1)
        return (codes - torch.from_numpy(zeros).reshape(shape)) * torch.from_numpy(SCALES).double().reshape(shape)

    check(build, expected, X, precision=precision)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("opset", ["iOS16", "iOS17"])
def test_constexpr_affine_dequantize(opset: str, precision: str) -> None:
    zeros = np.array([0, 5, -7], np.int8)

    def build(x: Any) -> Any:
        weight = mb.constexpr_affine_dequantize(
            quantized_data=CODES, zero_point=zeros, scale=like(x, SCALES), axis=np.int32(0)
        )
        return mb.add(x=x, y=weight)

    shape = (3, 1, 1, 1)
    reals = (CODES.astype(np.float64) - zeros.reshape(shape)) * SCALES.astype(np.float64).reshape(shape)
    check(build, lambda x: x + torch.from_numpy(reals), np.zeros(CODES.shape, np.float32),
          precision=precision, opset=opset, atol=0 if precision == "float32" else 6e-8)  # fmt: skip


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("blocks", [(3, 1, 1, 1), (1, 2, 1, 1), (3, 4, 1, 2)], ids=str)
@pytest.mark.parametrize("shifted", [False, True])
def test_constexpr_blockwise_shift_scale(shifted: bool, blocks: tuple[int, ...], precision: str) -> None:
    scale = np.linspace(0.01, 0.5, int(np.prod(blocks))).astype(np.float16).astype(np.float32).reshape(blocks)
    offset = np.arange(np.prod(blocks), dtype=np.int8).reshape(blocks) if shifted else None

    def build(x: Any) -> Any:
        more = {"offset": offset} if shifted else {}
        return mb.add(x=x, y=mb.constexpr_blockwise_shift_scale(data=CODES, scale=like(x, scale), **more))

    def spread(v: np.ndarray) -> np.ndarray:
        return np.kron(v, np.ones([n // b for n, b in zip(CODES.shape, blocks, strict=True)]))

    reals = (CODES - (spread(offset) if offset is not None else 0.0)) * spread(scale.astype(np.float64))
    check(build, lambda x: x + torch.from_numpy(reals), np.zeros(CODES.shape, np.float32),
          precision=precision, opset="iOS18", atol=0 if precision == "float32" else 6e-8)  # fmt: skip


def test_int4_weights() -> None:
    """Packed two to a byte, lowest bits first."""
    from coremltools.converters.mil.mil import types

    codes = R.integers(-8, 8, (3, 5, 1, 1))
    int4 = codes.astype(types.nptype_from_builtin(types.int4))
    scale = SCALES.reshape(3, 1, 1, 1)

    def build(x: Any) -> Any:
        return mb.add(x=x, y=mb.constexpr_blockwise_shift_scale(data=int4, scale=scale))

    (result,) = computed(build, np.zeros(codes.shape, np.float32), opset="iOS18")
    assert np.array_equal(result, codes.astype(np.float32) * scale)


def test_packed_types() -> None:
    assert unpack(np.array([0x21, 0xF8], np.uint8), "uint4", 4).tolist() == [1, 2, 8, 15]
    assert unpack(np.array([0x21, 0xF8], np.uint8), "int4", 3).tolist() == [1, 2, -8]
    assert unpack(np.array([0b11100100], np.uint8), "uint2", 4).tolist() == [0, 1, 2, 3]
    assert unpack(np.array([0b10001000, 0b11], np.uint8), "uint3", 3).tolist() == [0, 1, 6]
    assert unpack(np.array([5], np.uint8), "uint1", 8).tolist() == [1, 0, 1, 0, 0, 0, 0, 0]


def test_constexpr_cast_lut_and_sparse() -> None:
    half = R.uniform(-1, 1, (3, 4)).astype(np.float16)
    table = np.array([-1, 0.5, 2, 4], np.float32)
    indices = np.array([0b11100100, 0b00011011, 0b11111111], np.uint8)
    kept = np.array([0b00101101, 0b1100], np.uint8)
    nonzero = np.arange(1, 7, dtype=np.float32)

    def build(x: Any) -> list[Any]:
        shape = np.array([3, 4], np.uint32)
        return [
            mb.add(x=x, y=mb.constexpr_cast(source_val=half, output_dtype="fp32")),
            mb.add(x=x, y=mb.constexpr_lut_to_dense(indices=indices, lut=table, shape=shape)),
            mb.add(x=x, y=mb.constexpr_sparse_to_dense(nonzero_data=nonzero, mask=kept, shape=shape)),
        ]

    cast, looked_up, sparse = computed(build, np.zeros((3, 4), np.float32), opset="iOS16")
    assert np.array_equal(cast, half.astype(np.float32))
    assert looked_up.tolist() == [[-1, 0.5, 2, 4], [4, 2, 0.5, -1], [4, 4, 4, 4]]
    assert sparse.tolist() == [[1, 0, 2, 3], [0, 4, 0, 0], [0, 0, 5, 6]]


@pytest.mark.parametrize("opset", ["iOS15", "iOS16", "iOS17", "iOS18"])
def test_blobs_are_those_that_coremltools_reads(opset: str, tmp_path: Path) -> None:
    """Every record of weight.bin, value by value, beside coremltools' C++ reader."""
    from coremltools.libmilstoragepython import _BlobStorageReader as BlobReader

    floats = R.uniform(-1, 1, (4, 5)).astype(np.float32)
    halves = R.uniform(-1, 1, (4, 5)).astype(np.float16)
    table = np.arange(20, dtype=np.int32).reshape(4, 5)

    def build(x: Any) -> list[Any]:
        made = [mb.add(x=x, y=floats), mb.add(x=x, y=mb.cast(x=mb.const(val=halves), dtype="fp32"))]
        made.append(mb.add(x=x, y=mb.cast(x=mb.const(val=table), dtype="fp32")))
        if opset in ("iOS16", "iOS17"):
            made.append(
                mb.add(
                    x=x,
                    y=mb.constexpr_affine_dequantize(
                        quantized_data=table.astype(np.uint8), zero_point=np.uint8(3), scale=np.float32(2), axis=0
                    ),
                )
            )
        return made

    path = save(program(build, [floats], opset), tmp_path / "m.mlpackage", opset)
    model = MilReference(path)
    weights = path / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    reader, blobs = BlobReader(str(weights)), Blobs(weights)
    readers = {"float32": reader.read_float_data, "uint8": reader.read_uint8_data, "int8": reader.read_int8_data}
    readers |= {"int32": reader.read_int32_data}
    kinds = set()
    for offset in blobs.offsets():
        dtype, values = blobs.read(offset)
        kinds.add(dtype)
        if dtype == "float16":
            expected = np.array(reader.read_fp16_data(offset), np.uint16).view(np.float16)
        else:
            expected = np.array(readers[dtype](offset), dtype)
        assert np.array_equal(values, expected)
    assert {"float32", "float16"} <= kinds
    assert len(list(blobs.offsets())) == blobs.count
    results = model.run([np.zeros((4, 5), np.float32)])
    assert np.array_equal(results[model.outputs[0].name], floats)
    assert np.array_equal(results[model.outputs[1].name], halves.astype(np.float32))
    assert np.array_equal(results[model.outputs[2].name], table)
