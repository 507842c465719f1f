"""Products of two activations: matmul in its spellings, einsum, attention."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from exporter.capture.aten.arithmetic import add, linear, mul, softmax
from exporter.capture.aten.shape import permute, unsqueeze, view
from exporter.capture.aten.table import Builder, Unsupported, aten
from exporter.ir.graph import Value


@aten("matmul", "bmm", "mm")
def matmul(b: Builder, x: Value, y: Value) -> Value:
    """With a constant matrix on the right it is a linear layer. Vectors become matrices of one row or column."""
    if len(x.shape) == 1:
        return _squeeze(b, matmul(b, unsqueeze(b, x, 0), y), -2 if len(y.shape) > 1 else -1)
    if len(y.shape) == 1:
        return _squeeze(b, matmul(b, x, unsqueeze(b, y, 1)), -1)
    if y.const is not None and len(y.shape) == 2 and x.const is None:
        return linear(b, x, b.constant(y.const.t().contiguous()))
    return b.emit("matmul", x, y, transpose_b=False)


def _squeeze(b: Builder, x: Value, dim: int) -> Value:
    return view(b, x, torch.empty(x.shape, device="meta").squeeze(dim).shape)


@aten("baddbmm")
def baddbmm(b: Builder, bias: Value, x: Value, y: Value, beta: float = 1, alpha: float = 1) -> Value:
    product = matmul(b, x, y) if alpha == 1 else mul(b, matmul(b, x, y), alpha)
    return add(b, product, bias, beta) if beta else product


@aten("scaled_dot_product_attention")
def scaled_dot_product_attention(
    b: Builder, q: Value, k: Value, v: Value, mask: Value | None = None, dropout: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Value:  # fmt: skip
    """softmax(q k^T scale + mask) v, with q [..., T, d], k [..., S, d], v [..., S, e].

    The scale is put on q, from where simplify moves it into the layer that made q.
    """
    if is_causal or enable_gqa or dropout or (mask is not None and mask.dtype is not torch.float32):
        raise Unsupported("is_causal, enable_gqa, dropout or a mask of truth values")
    scaled = mul(b, q, scale if scale is not None else 1 / math.sqrt(q.shape[-1]))
    scores = b.emit("matmul", scaled, k, transpose_b=True)
    if mask is not None:
        scores = add(b, scores, mask)
    return matmul(b, softmax(b, scores, -1), v)


@aten("einsum")
def einsum(b: Builder, equation: str, operands: Sequence[Value], path: object = None) -> Value:
    """Of one or two operands, without repeated or summed-away letters of one operand: transposes and a matmul."""
    left, arrow, result = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if not arrow or "." in equation or len(terms) > 2 or any(len(set(t)) != len(t) for t in terms):
        raise Unsupported(f"einsum {equation!r}: only one or two operands, `->`, no ellipsis, no repeated letter")
    sizes = {letter: n for t, x in zip(terms, operands, strict=True) for letter, n in zip(t, x.shape, strict=True)}
    if len(terms) == 1:
        return _arranged(b, operands[0], terms[0], result)
    one, two = terms
    batch = [c for c in one if c in two and c in result]
    summed = [c for c in one if c in two and c not in result]
    rows = [c for c in one if c not in two]
    columns = [c for c in two if c not in one]
    if not set(rows + columns) <= set(result):
        raise Unsupported(f"einsum {equation!r}: a letter of one operand is summed over")
    lead = [sizes[c] for c in batch]
    size_of = {name: math.prod(sizes[c] for c in group) for name, group in
               (("rows", rows), ("summed", summed), ("columns", columns))}  # fmt: skip
    x = view(b, _arranged(b, operands[0], one, [*batch, *rows, *summed]), [*lead, size_of["rows"], size_of["summed"]])
    y = view(
        b, _arranged(b, operands[1], two, [*batch, *summed, *columns]), [*lead, size_of["summed"], size_of["columns"]]
    )
    product = view(b, matmul(b, x, y), [*lead, *(sizes[c] for c in [*rows, *columns])])
    return _arranged(b, product, [*batch, *rows, *columns], result)


def _arranged(b: Builder, x: Value, have: Sequence[str], want: Sequence[str]) -> Value:
    if sorted(have) != sorted(want):
        raise Unsupported("einsum that sums over a letter of one operand")
    return x if list(have) == list(want) else permute(b, x, [list(have).index(c) for c in want])
