"""Integer arithmetic of every op, exactly as LiteRT's default interpreter runs it on x86.

The XNNPACK delegate's kernels where it takes the op, TFLite's builtin kernels elsewhere; each function names its
source. `INTEGER` maps op names to functions; `silu_codes` is the delegate's fused LOGISTIC + MUL.
"""

from exporter.ir.integer import builtin, conv, elementwise, powers, shape, tables, windows  # noqa: F401 (importing registers ops)
from exporter.ir.integer.registry import INTEGER
from exporter.ir.integer.tables import requantize, saturating_steps, silu_codes

__all__ = ["INTEGER", "requantize", "saturating_steps", "silu_codes"]
