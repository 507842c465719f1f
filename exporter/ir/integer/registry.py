"""The table of integer ops, and the arithmetic that several of them share."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from exporter.errors import UnsupportedError
from exporter.ir.quant import QuantParams

Params = list[QuantParams | None]
IntegerOp = Callable[..., Tensor]

INTEGER: dict[str, IntegerOp] = {}
"""Op name -> `fn(inputs, params, out, **attrs)`: codes in, int8 codes out. `params` belong to `inputs`."""

ACTIVATION_RANGES = {"none": (-np.inf, np.inf), "relu": (0.0, np.inf), "relu6": (0.0, 6.0)}


def integer(run: IntegerOp) -> IntegerOp:
    """Register the decorated function under its name (a trailing underscore is dropped)."""
    name = run.__name__.rstrip("_")
    if name in INTEGER:
        raise ValueError(f"integer op {name} is registered twice")
    INTEGER[name] = run
    return run


def quantised(params: QuantParams | None) -> QuantParams:
    """`params`, which must not be None: integer ops take quantised operands only."""
    if params is None:
        raise ValueError("an integer op got an operand without quantisation parameters")
    return params


def require_same(params: Params, out: QuantParams, op: str) -> None:
    """Refuse an op that would have to rescale: the runtime moves the codes as they are, or fails to prepare."""
    if any(p != out for p in params):
        raise UnsupportedError(
            f"int8 {op} with operands of different quantisation parameters",
            why="the runtime does not rescale them",
            try_="give its operands and its output one set of parameters",
        )


def scale32(params: QuantParams) -> np.float32:
    """The per-tensor scale as a float32 scalar: every product and quotient of scales is rounded to float32."""
    return np.float32(params.scale[0])


def zero_point32(params: QuantParams) -> np.float32:
    """The zero point as a float32 scalar."""
    return np.float32(params.zero_point)


def clamp_codes(activation: str, out: QuantParams) -> tuple[int, int]:
    """The codes that a fused activation clamps to: bound / scale + zero point in float32, rounded half to even.

    Source: XNNPACK src/xnnpack/requantization.h (xnn_qs8_quantize).
    """
    low, high = out.limits
    bounds = np.array(ACTIVATION_RANGES[activation], np.float32) / scale32(out) + zero_point32(out)
    codes = np.rint(np.clip(bounds, low, high)).astype(int)
    return int(codes[0]), int(codes[1])


def centred(codes: Tensor, params: QuantParams) -> Tensor:
    """codes - zero point as float32 (exact)."""
    x = codes.to(torch.float32)
    return x.sub_(params.zero_point) if params.zero_point else x


def to_codes(x: Tensor, out: QuantParams, activation: str = "none") -> Tensor:
    """Round float32 `x` (in units of the output scale) half to even, add the zero point, clamp. Overwrites `x`."""
    low, high = clamp_codes(activation, out)
    return x.round_().add_(out.zero_point).clamp_(low, high).to(torch.int8)


ALL_CODES = np.arange(-128, 128, dtype=np.int32)
"""The input codes of a lookup table, in the order of its entries."""


def lookup(codes: Tensor, table: Tensor) -> Tensor:
    """`table[code + 128]` for int8 `codes`, in their memory order. `table` is int8 [256].

    Python's byte translation is the fastest such lookup at hand: 2 to 7 times the speed of indexing in torch.
    """
    nhwc = codes.dim() == 4 and codes.is_contiguous(memory_format=torch.channels_last)
    dense = codes.permute(0, 2, 3, 1) if nhwc else codes.contiguous()
    found = bytearray(dense.view(-1).numpy().data).translate(table.roll(128).numpy().tobytes())
    result = torch.from_numpy(np.frombuffer(found, np.int8)).view(dense.shape)
    return result.permute(0, 3, 1, 2) if nhwc else result


def reference_codes(real: np.ndarray, out: QuantParams) -> Tensor:
    """float32 reals -> codes as XNNPACK's reference kernels do: round(x·(1/scale) + zero point) in float32, clamped.

    The zero point is added before the rounding, unlike in `QuantParams.quantize`. Source: XNNPACK
    src/xnnpack/reference-utils.h.
    """
    codes = np.rint(real.astype(np.float32) * (np.float32(1) / scale32(out)) + zero_point32(out))
    return torch.from_numpy(np.clip(codes, *out.limits).astype(np.int8))


def reals(params: QuantParams) -> np.ndarray:
    """The float32 value of each of the 256 input codes."""
    return (ALL_CODES.astype(np.float32) - zero_point32(params)) * scale32(params)


Table = Callable[..., Tensor]


def cached_table(make: Table) -> Table:
    """Build a lookup table once per set of parameters."""
    return lru_cache(maxsize=4096)(make)
