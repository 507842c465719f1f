"""The lowest op version that holds what we write, and the TFLite runtime that first knew it.

Facts from the runtime's own tables (`op_version.cc` and `runtime_version.cc` of LiteRT): a version higher than needed
makes a file refuse to load on older apps.
"""

from __future__ import annotations

from collections.abc import Sequence

FLOAT = {"FULLY_CONNECTED": 1, "GELU": 1}
INT8 = {
    "ADD": 2, "BATCH_MATMUL": 2, "CONCATENATION": 2, "CONV_2D": 3, "DEPTHWISE_CONV_2D": 3,
    "DEQUANTIZE": 2, "EXP": 2, "FULLY_CONNECTED": 4, "GELU": 2, "LOGISTIC": 2, "MAXIMUM": 2, "MAX_POOL_2D": 2,
    "MEAN": 2, "MUL": 2, "PAD": 2, "PADV2": 2, "RESIZE_BILINEAR": 2,
    "RESIZE_NEAREST_NEIGHBOR": 2, "REDUCE_MAX": 2, "RSQRT": 2,
    "SPACE_TO_DEPTH": 2, "TRANSPOSE_CONV": 3, "SLICE": 2, "SOFTMAX": 2, "SQRT": 2, "STRIDED_SLICE": 2, "SUB": 2,
    "TANH": 2, "TRANSPOSE": 2,
}  # fmt: skip
"""Version when input 0 is int8; ops that are absent stay at 1."""

RANK_5 = {"PAD": 4, "PADV2": 4, "SLICE": 5, "STRIDED_SLICE": 4, "TRANSPOSE": 4}
BROADCAST_5 = {"DIV": 2, "MAXIMUM": 3, "SUB": 3}
"""Versions for tensors of more than 4 dims: always, or when the operands differ in shape."""

SINCE = {
    ("DEPTH_TO_SPACE", 1): "2.1.0", ("ELU", 1): "1.14.0", ("REDUCE_MAX", 1): "1.11.0", ("REDUCE_MAX", 2): "1.14.0",
    ("SPACE_TO_DEPTH", 1): "1.5.0", ("SPACE_TO_DEPTH", 2): "1.14.0", ("TRANSPOSE_CONV", 3): "2.3.0",
    ("TRANSPOSE_CONV", 4): "2.13.0",
    ("ADD", 1): "1.5.0", ("ADD", 2): "1.14.0", ("AVERAGE_POOL_2D", 1): "1.5.0", ("AVERAGE_POOL_2D", 2): "1.14.0",
    ("CONCATENATION", 1): "1.5.0", ("CONCATENATION", 2): "1.14.0", ("CONV_2D", 1): "1.5.0", ("CONV_2D", 3): "1.14.0",
    ("CONV_2D", 6): "2.9.0", ("DEPTHWISE_CONV_2D", 1): "1.5.0", ("DEPTHWISE_CONV_2D", 2): "1.12.0",
    ("DEPTHWISE_CONV_2D", 3): "1.14.0", ("DEQUANTIZE", 2): "1.14.0", ("DEQUANTIZE", 3): "1.15.0", ("DIV", 1): "1.6.0",
    ("FULLY_CONNECTED", 1): "1.5.0", ("FULLY_CONNECTED", 4): "1.14.0", ("FULLY_CONNECTED", 5): "2.0.0",
    ("GELU", 1): "2.9.0", ("GELU", 2): "2.9.0", ("HARD_SWISH", 1): "1.15.0", ("LEAKY_RELU", 1): "1.13.1",
    ("LOGISTIC", 1): "1.14.0", ("LOGISTIC", 2): "1.14.0",
    ("MAX_POOL_2D", 1): "1.5.0", ("MAX_POOL_2D", 2): "1.14.0",
    ("MEAN", 1): "1.6.0", ("MEAN", 2): "1.14.0", ("MUL", 1): "1.5.0", ("MUL", 2): "1.14.0", ("MUL", 3): "1.15.0",
    ("PAD", 1): "1.5.0", ("PAD", 2): "1.14.0", ("PADV2", 1): "1.9.0", ("PADV2", 2): "1.14.0",
    ("QUANTIZE", 1): "1.14.0", ("RELU", 1): "1.5.0", ("RELU", 2): "2.1.0", ("RELU6", 1): "1.5.0",
    ("RELU6", 2): "1.14.0", ("RESHAPE", 1): "1.5.0", ("RESIZE_BILINEAR", 1): "1.7.0", ("RESIZE_BILINEAR", 2): "1.14.0",
    ("RESIZE_BILINEAR", 3): "2.2.0", ("RESIZE_NEAREST_NEIGHBOR", 1): "1.13.1",
    ("RESIZE_NEAREST_NEIGHBOR", 2): "1.14.0", ("SLICE", 1): "1.14.0", ("SLICE", 2): "1.14.0", ("SOFTMAX", 1): "1.5.0",
    ("SOFTMAX", 2): "1.14.0", ("STRIDED_SLICE", 1): "1.6.0", ("STRIDED_SLICE", 2): "1.14.0", ("SUB", 1): "1.6.0",
    ("SUB", 2): "1.14.0", ("TANH", 1): "1.14.0", ("TANH", 2): "1.14.0", ("TRANSPOSE", 1): "1.6.0",
    ("TRANSPOSE", 2): "1.14.0",
    ("EXP", 1): "1.7.0", ("EXP", 2): "2.12.0",
    ("BATCH_MATMUL", 1): "2.3.0", ("BATCH_MATMUL", 2): "2.3.0", ("RSQRT", 1): "1.10.0", ("RSQRT", 2): "2.5.0",
    ("SQRT", 1): "1.10.0", ("SQRT", 2): "2.21.0",
    ("MINIMUM", 1): "1.14.0", ("MAXIMUM", 1): "1.14.0", ("MAXIMUM", 2): "1.14.0", ("MAXIMUM", 3): "2.3.0",
    ("DIV", 2): "2.3.0", ("PAD", 4): "2.6.0", ("PADV2", 4): "2.6.0", ("SLICE", 5): "2.5.0",
    ("STRIDED_SLICE", 4): "2.2.0", ("SUB", 3): "2.3.0", ("TRANSPOSE", 4): "2.3.0",
}  # fmt: skip
"""(op, version) -> first TensorFlow Lite release that runs it."""


def version_of(op: str, *, int8: bool, at_least: int = 1) -> int:
    """The version to write for `op`; `at_least` where the op's options need a newer one."""
    return max(at_least, (INT8 if int8 else FLOAT).get(op, 1))


def version_of_rank(op: str, shapes: Sequence[tuple[int, ...]]) -> int:
    """The version that the operands' rank asks for."""
    if max(map(len, shapes)) <= 4:
        return 1
    return max(RANK_5.get(op, 1), BROADCAST_5.get(op, 1) if shapes[0] != shapes[-1] else 1)


def minimum_runtime(ops: set[tuple[str, int]]) -> str:
    """The oldest TFLite release that runs all these builtin (op, version) pairs. KeyError for a pair without a fact.

    The runtime's table knows no custom operators.
    """
    releases = [SINCE[op] for op in ops] or ["1.5.0"]
    return max(releases, key=lambda release: [int(part) for part in release.split(".")])
