"""What the affine passes share: reading `x * constant` and `x + constant`."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from exporter.ir.graph import Node, Value


@dataclass(frozen=True)
class Affine:
    """`node` computes x * factor (op mul) or x + factor (op add), factor a float64 scalar or a vector along `dim`."""

    node: Node
    x: Value
    factor: Tensor
    dim: int = 1

    @property
    def is_mul(self) -> bool:
        """A factor, not a shift."""
        return self.node.op.name == "mul"

    @property
    def scalar(self) -> float | None:
        """The factor when it is one number."""
        return float(self.factor.item()) if self.factor.numel() == 1 else None

    def vector(self, channels: int) -> Tensor:
        """The factor as [channels]."""
        return self.factor.expand(channels)


def read_affine(node: Node) -> Affine | None:
    """`node` as an affine step on dim 1 (maps) or on the last dim (tokens), or None."""
    if node.op.name not in ("mul", "add", "sub") or node.attrs["activation"] != "none":
        return None
    a, b = node.inputs
    if a.const is not None and node.op.name != "sub":
        a, b = b, a
    if a.const is not None or b.const is None or a.shape != node.output.shape:
        return None
    factor, dim, rank = b.const.double(), 1, len(a.shape)
    if factor.numel() != 1:
        padded = (1,) * (rank - factor.dim()) + tuple(factor.shape)
        along = [d for d, n in enumerate(padded) if n != 1]
        if len(along) != 1 or along[0] not in (1, rank - 1) or rank < 2:
            return None
        dim = along[0]
    factor = factor.reshape(-1)
    return Affine(node, a, -factor if node.op.name == "sub" else factor, dim)


def scaled(weight: Tensor, factor: Tensor, dim: int) -> Tensor:
    """weight * factor along `dim`, computed in float64."""
    shape = [-1 if d == dim else 1 for d in range(weight.dim())]
    return (weight.double() * factor.reshape(shape)).float()


__all__ = ["Affine", "read_affine", "scaled"]
