"""Ops that only move codes: input and output share their parameters."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from exporter.ir import ops
from exporter.ir.integer.registry import Params, integer, require_same
from exporter.ir.ops import Ints
from exporter.ir.quant import QuantParams


@integer
def pad(inputs: list[Tensor], params: Params, out: QuantParams, *, before: Ints, after: Ints, value: float) -> Tensor:
    """Constant padding with the code of `value` (0: the zero point)."""
    require_same(params, out, "pad")
    x = inputs[0]
    widths = [n for d in reversed(range(x.dim())) for n in (before[d], after[d])]
    return F.pad(x, widths, value=int(out.quantize(torch.tensor(value))))


@integer
def slice_(
    inputs: list[Tensor], params: Params, out: QuantParams, *, dim: int, start: int, end: int, step: int
) -> Tensor:
    """x[start:end:step] along `dim`."""
    require_same(params, out, "slice")
    return ops.slice_(inputs[0], dim=dim, start=start, end=end, step=step)


@integer
def reshape(inputs: list[Tensor], params: Params, out: QuantParams, *, shape: Ints) -> Tensor:
    """Row-major reshape."""
    require_same(params, out, "reshape")
    return inputs[0].reshape(shape)


@integer
def transpose(inputs: list[Tensor], params: Params, out: QuantParams, *, perm: Ints) -> Tensor:
    """Output dim d is input dim perm[d]."""
    require_same(params, out, "transpose")
    return inputs[0].permute(perm)


@integer
def depth_to_space(inputs: list[Tensor], params: Params, out: QuantParams, *, block: int) -> Tensor:
    """Channels to blocks of pixels."""
    require_same(params, out, "depth_to_space")
    return ops.depth_to_space(inputs[0], block=block)


@integer
def space_to_depth(inputs: list[Tensor], params: Params, out: QuantParams, *, block: int) -> Tensor:
    """Blocks of pixels to channels."""
    require_same(params, out, "space_to_depth")
    return ops.space_to_depth(inputs[0], block=block)


@integer
def concat(inputs: list[Tensor], params: Params, out: QuantParams, *, dim: int) -> Tensor:
    """Concatenation along `dim`."""
    require_same(params, out, "concat")
    return torch.cat(inputs, dim)


@integer
def gather_channels(inputs: list[Tensor], params: Params, out: QuantParams, *, channels: Ints) -> Tensor:
    """Output channel i is input channel channels[i]."""
    require_same(params, out, "gather_channels")
    return ops.gather_channels(inputs[0], channels=channels)
