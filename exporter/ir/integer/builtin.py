"""Ops that XNNPACK does not take in int8: the arithmetic of TFLite's builtin kernels on x86."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from exporter.ir.integer.fixed_point import round_half_away
from exporter.ir.integer.registry import (
    Params,
    cached_table,
    integer,
    lookup,
    quantised,
    reals,
    scale32,
)
from exporter.ir.quant import QuantParams


@integer
def exp(inputs: list[Tensor], params: Params, out: QuantParams) -> Tensor:
    """A table made in float32, rounded half away from zero. Source: tflite/kernels/exp.cc, internal/common.h."""
    return lookup(inputs[0], _exp_table(quantised(params[0]), out))


@cached_table
def _exp_table(x: QuantParams, out: QuantParams) -> Tensor:
    y = np.exp(reals(x).astype(np.float64)).astype(np.float32)
    codes = round_half_away(y * (np.float32(1) / scale32(out))) + out.zero_point
    return torch.from_numpy(np.clip(codes, *out.limits).astype(np.int8))


@integer
def gelu(inputs: list[Tensor], params: Params, out: QuantParams, *, approximate: str) -> Tensor:
    """A table made in float32, rounded half away from zero. Source: tflite/kernels/internal/reference/gelu.h."""
    return lookup(inputs[0], _gelu_table(quantised(params[0]), out, approximate))


@cached_table
def _gelu_table(x_params: QuantParams, out: QuantParams, approximate: str) -> Tensor:
    x, f32 = reals(x_params), np.float32
    if approximate == "tanh":
        inner = f32(math.sqrt(2 / math.pi)) * (x + f32(0.044715) * x * x * x)
        y = f32(0.5) * x * (f32(1) + np.tanh(inner.astype(np.float64)).astype(f32))
    else:
        erfc = np.array([math.erfc(v) for v in x * f32(-math.sqrt(0.5))], f32)
        y = f32(0.5) * x * erfc
    codes = round_half_away(y * (f32(1) / scale32(out))) + out.zero_point
    return torch.from_numpy(np.clip(codes, *out.limits).astype(np.int8))


@integer
def softmax(inputs: list[Tensor], params: Params, out: QuantParams, *, dim: int) -> Tensor:
    """exp from a float32 table, summed in order in float32, rounded half away from zero.

    Source: tflite/kernels/internal/optimized/optimized_ops.h (x86; aarch64 uses another table, 1 LSB apart at times).
    """
    x = inputs[0].movedim(dim, -1).numpy().astype(np.int32)
    steps = -scale32(quantised(params[0])) * np.arange(256, dtype=np.float32)
    table = np.exp(steps.astype(np.float64)).astype(np.float32)
    exps = table[x.max(-1, keepdims=True) - x]
    total = np.add.accumulate(exps, -1)[..., -1:]
    probability = exps * (np.float32(1) / (total * scale32(out)))
    codes = np.clip(round_half_away(probability) + out.zero_point, *out.limits)
    return torch.from_numpy(codes.astype(np.int8)).movedim(-1, dim)
