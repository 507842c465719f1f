"""Counts of one inference, operator by operator.

The runtime reads the clock before and after what it profiles, and under the emulator each reading is a system call at
which the plugin takes its sums. So the differences between readings are the operators' own, in their order:

    partition   x o x o x o x       XNNPACK: one reading before its first operator object, one after each
    op outside  x o x               TFLite: one before, one after

LiteRT's profiler names what ran: `events` of litert_events.py. XNNPACK has an operator object for each input of a
concatenation and each output of a split, and one for everything else. It has its own names, and fuses what it can, so
events are paired with the file's operators in their common order (`pair`).
"""

from __future__ import annotations

from collections.abc import Sequence

from exporter.verify.devices.arm64.plugin import Call, Sums
from exporter.verify.devices.facts import OpCount
from exporter.verify.runtimes.litert_file import FileOp, TFLiteFile
from exporter.verify.runtimes.litert_profile import DELEGATED, OUTSIDE

CLOCK_GETTIME, GETRUSAGE = 113, 165  # of aarch64, in asm-generic/unistd.h

_NAMES = {
    "ADD": ("Add",),
    "AVERAGE_POOL_2D": ("Average Pooling", "Global Average Pooling"),
    "BATCH_MATMUL": ("Batch Matrix Multiply", "Fully Connected"),
    "CONCATENATION": ("Copy",),
    "CONV_2D": ("Convolution", "Fully Connected"),
    "DEPTHWISE_CONV_2D": ("Convolution",),
    "DEPTH_TO_SPACE": ("Depth To Space",),
    "DEQUANTIZE": ("Convert",),
    "DIV": ("Divide",),
    "ELU": ("ELU",),
    "FULLY_CONNECTED": ("Fully Connected",),
    "GELU": ("GELU",),
    "HARD_SWISH": ("HardSwish",),
    "LEAKY_RELU": ("Leaky ReLU",),
    "LOGISTIC": ("Sigmoid",),
    "MAXIMUM": ("Maximum",),
    "MAX_POOL_2D": ("Max Pooling",),
    "MEAN": ("Mean", "Global Average Pooling"),
    "MINIMUM": ("Minimum",),
    "MUL": ("Multiply",),
    "PAD": ("Constant Pad",),
    "QUANTIZE": ("Convert",),
    "RELU": ("Clamp",),
    "RELU6": ("Clamp",),
    "RESHAPE": ("Static Reshape", "Copy"),
    "RESIZE_BILINEAR": ("Resize Bilinear",),
    "SLICE": ("Slice",),
    "SOFTMAX": ("Softmax",),
    "SPLIT": ("Copy", "Slice"),
    "STRIDED_SLICE": ("Slice",),
    "SUB": ("Subtract",),
    "TANH": ("Tanh",),
    "TRANSPOSE": ("Transpose",),
    "TRANSPOSE_CONV": ("Deconvolution",),
}

_UNARY = ("Invalid Unary Op", "Clamp", "Convert")
"""Names under which a table lookup or a change of scale may run: a fused SiLU is the first of them."""
_AS_UNARY = ("MUL", "QUANTIZE", "DEQUANTIZE", "LOGISTIC", "TANH", "ELU", "GELU", "HARD_SWISH", "LEAKY_RELU")
_MAY_VANISH = ("PAD", "LOGISTIC", "RESHAPE", "QUANTIZE", "DEQUANTIZE", "RELU", "RELU6")
"""Fused into a neighbour, or nothing to do."""
_SURE, _LIKELY, _ALONE = 4, 2, -3
"""Worth of a pair, and of an event or operator that is left over."""

Event = tuple[int, str, int]
"""Type, name and number within its partition, or index in the file for an op outside."""


def operators(events: Sequence[Event], calls: Sequence[Call], file: TFLiteFile) -> tuple[OpCount, ...]:
    """What each event took. Empty where readings and events do not add up: then nobody can tell them apart."""
    ran = [(kind, name, number) for kind, name, number in events if kind in DELEGATED or kind == OUTSIDE]
    outside = {number for kind, _, number in ran if kind == OUTSIDE}
    inside = [op for op in file.ops if op.index not in outside]
    delegated = [name for kind, name, _ in ran if kind in DELEGATED]
    ops = iter(pair(delegated, inside))
    readings = iter(clock_readings(calls))
    found = []
    try:
        last = Sums(0, 0, 0)
        for kind, name, number in ran:
            op = file.ops[number] if kind == OUTSIDE else next(ops)
            if kind == OUTSIDE or number == 0:
                last = next(readings)
            for _ in range(_objects(op) if kind in DELEGATED else 1):
                now = next(readings)
            found.append(_row(name, op, now - last, file))
            last = now
    except StopIteration:
        return ()
    return () if next(readings, None) else tuple(found)


def clock_readings(calls: Sequence[Call]) -> list[Sums]:
    """Those of operators. The profiler's own, around whole inferences, ask for the memory in use right after."""
    following = [*calls[1:], Call(0, Sums(0, 0, 0))]
    return [
        call.sums
        for call, after in zip(calls, following, strict=True)
        if call.number == CLOCK_GETTIME and after.number != GETRUSAGE
    ]


def pair(events: Sequence[str], ops: Sequence[FileOp]) -> list[FileOp | None]:
    """For each of XNNPACK's names the operator of the file that it is, both in order of execution.

        PAD, CONV_2D          Convolution (NHWC, QC8) IGEMM     a fused pad: the convolution's
        LOGISTIC, MUL         Invalid Unary Op                  a fused SiLU: the multiplication's
        ADD with RELU         Add (ND), Clamp (NC)              the second is nobody's: None

    The pairing of highest worth, found as sequences are aligned (Needleman and Wunsch, 1970).
    """
    width = len(ops)
    best = [[0.0] * (width + 1)]
    for j, op in enumerate(ops):
        best[0][j + 1] = best[0][j] + _unpaired(op)
    for event in events:
        above = best[-1]
        row = [above[0] + _ALONE]
        for j, op in enumerate(ops):
            row.append(max(above[j] + _worth(event, op), above[j + 1] + _ALONE, row[j] + _unpaired(op)))
        best.append(row)
    paired: list[FileOp | None] = [None] * len(events)
    i, j = len(events), width
    while i and j:
        op = ops[j - 1]
        if best[i][j] == best[i][j - 1] + _unpaired(op):
            j -= 1
        elif best[i][j] == best[i - 1][j] + _ALONE:
            i -= 1
        else:
            i, j = i - 1, j - 1
            paired[i] = op
    return paired


def _worth(event: str, op: FileOp) -> float:
    if event.startswith(_NAMES.get(op.name, ("?",))):
        return _SURE
    return _LIKELY if op.name in _AS_UNARY and event.startswith(_UNARY) else 3 * _ALONE


def _unpaired(op: FileOp) -> float:
    return 0 if op.name in _MAY_VANISH else _ALONE


def _objects(op: FileOp | None) -> int:
    if op is None:
        return 1
    return {"CONCATENATION": len(op.inputs), "SPLIT": len(op.outputs)}.get(op.name, 1)


def _row(event: str, op: FileOp | None, sums: Sums, file: TFLiteFile) -> OpCount:
    return OpCount(
        op=op.name if op else event,
        name=file.tensors[op.outputs[0]].name if op else "",
        instructions=sums.instructions,
        loaded_bytes=sums.loaded,
        stored_bytes=sums.stored,
    )
