"""The recipe's conditions, judged. A failed accuracy gate ends in exit code 5, every other one in 6 (DESIGN.md §5)."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator, Sequence

from exporter.errors import AccuracyError, BudgetError
from exporter.recipe import Gates
from exporter.verify.results import Agreement, Evaluation, Gate, Measurements, Score, Snr, Verification


def judge(result: Verification, gates: Gates) -> tuple[Gate, ...]:
    """One Gate for every condition that is on and that something was measured for, target by target."""
    several = len(result.targets) > 1
    agreement = {row.file: row for row in result.agreement}
    return tuple(
        gate.model_copy(update={"target": found.target if several else ""})
        for found in result.targets
        for gate in (
            *_judged(found, gates),
            *_dropped(found.target, result.evaluation, gates),
            *_agreed(agreement.get(found.target), gates),
        )
    )


def _agreed(row: Agreement | None, gates: Gates) -> Iterator[Gate]:
    """One difference is too much, however many values there are: no share of it is rounded up to 1."""
    if row is None or gates.agreement is None:
        return
    parts = (row.parameters, row.weights, row.biases)
    count, equal = sum(part.count for part in parts), sum(part.equal for part in parts)
    share = min(equal / count if count else 1.0, 1.0 if row.agrees else math.nextafter(1.0, 0.0))
    yield _gate(
        "integers read back",
        "accuracy",
        f">= {gates.agreement:.2%}",
        f"{equal:,} of {count:,}" + ("" if row.agrees else f", {len(row.differences)} differences"),
        share >= gates.agreement,
    )


def _dropped(target: str, found: Evaluation | None, gates: Gates) -> Iterator[Gate]:
    """The main metric of the shipped file, against PyTorch's on the same pictures."""
    if found is None or gates.metric_drop is None:
        return
    for row in found.scores:
        if row.shipped and row.target == target and row.metric == found.metric and row.drop is not None:
            yield metric_drop(row, row.drop, gates.metric_drop)


def metric_drop(row: Score, points: float, limit: float) -> Gate:
    """Whether a metric lost no more than `limit`, in hundredths of a point."""
    allowed = 100 * limit
    held = round(points - allowed, 7) <= 0  # 64 % less 63 % is one point, not a hair more
    return _gate(f"{row.metric} drop", "accuracy", f"<= {allowed:g} points", f"{points:.2f} points", held)


def _judged(result: Measurements, gates: Gates) -> Iterator[Gate]:
    shipped = result.files[0]
    least = gates.float16_snr if shipped.precision == "float16" else gates.float_snr
    if least is not None and result.float_parity:
        yield _snr("float SNR", _gated(result), least)
    rounded = [row for row in result.integer_parity if row.arithmetic != "float16"]  # 11 bits: one code apart at times
    if gates.integer_equal is not None and rounded:
        worst = min(row.equal for row in rounded)
        yield _gate(
            "integer codes equal",
            "accuracy",
            f">= {gates.integer_equal:.4%}",
            f"{worst:.4%}",
            worst >= gates.integer_equal,
        )
    if gates.integer_lsb is not None and result.integer_parity:
        most = max(row.max_lsb for row in result.integer_parity)
        yield _gate(
            "integer difference", "accuracy", f"<= {gates.integer_lsb} LSB", f"{most} LSB", most <= gates.integer_lsb
        )
    if gates.int8_snr is not None and result.int8_snr:
        yield _snr("int8 SNR", result.int8_snr, gates.int8_snr)
    if gates.float_snr is not None and result.tail_parity:
        yield _snr("float tail SNR", result.tail_parity, gates.float_snr)
    yield from _detections(result, gates)
    if gates.integer_share is not None and shipped.precision == "int8":
        share = shipped.as_asked_share
        yield _gate(
            "integer ops", "accuracy", f">= {gates.integer_share:.2%}", f"{share:.2%}", share >= gates.integer_share
        )
    if gates.max_transposes is not None:
        most, found = gates.max_transposes, shipped.transposes
        yield _gate("transposes", "latency", f"<= {most}", f"{found}", found <= most)
    if newest := gates.minimum_runtime.model_dump()[result.target]:
        needed = shipped.minimum_runtime
        passed = release(needed, result.target) <= release(newest, result.target)
        yield _gate("minimum runtime", "runtime", f"<= {newest}", needed, passed)
    if gates.max_size is not None:
        size = shipped.size_bytes / 1e6
        yield _gate("size", "size", f"<= {gates.max_size:g} MB", f"{size:.2f} MB", size <= gates.max_size)
    times = {precision: row.median_ms for precision, row in result.latency.items()}
    if gates.latency_ratio is not None and {"int8", "float32"} <= times.keys():
        ratio = times["int8"] / times["float32"]
        yield _gate(
            "int8 / float time", "latency", f"<= {gates.latency_ratio:g}", f"{ratio:.2f}", ratio <= gates.latency_ratio
        )


RELEASE = {"tflite": r"([\d.]+)", "onnx": r"(?:onnxruntime )?(\d[\d.]*)$", "coreml": r"(?:iOS )?(\d[\d.]*)"}
"""Where the release stands in what a file says that it needs, and in the recipe."""


def release(text: str, target: str) -> tuple[int, ...]:
    """`opset 21, onnxruntime 1.17.0` -> (1, 17). What cannot be read is newer than every release."""
    found = re.search(RELEASE[target], text)
    parts = found[1].strip(".").split(".") if found else [str(sys.maxsize)]
    while parts and int(parts[-1]) == 0:
        parts.pop()
    return tuple(map(int, parts))


def _gated(result: Measurements) -> tuple[Snr, ...]:
    """Of a float16 file with a float tail the heads: behind them, exponentials make large errors of small ones."""
    behind = {row.output for row in result.tail_parity} if result.files[0].precision == "float16" else set()
    return tuple(row for row in result.float_parity if row.output not in behind)


def _detections(result: Measurements, gates: Gates) -> Iterator[Gate]:
    """A float32 file's must be PyTorch's, others' the interpreter's; how near those come to PyTorch's is optional."""
    for row in result.detections:
        reduced = row.file != "float32" and row.reference == "PyTorch"
        limit = gates.similar_detections if reduced else gates.same_detections
        if limit is not None and (row.expected or row.found):
            yield _gate(
                f"{row.file} detections of {row.reference}",
                "accuracy",
                f">= {limit:.2%}",
                f"{row.share:.2%}",
                row.share >= limit,
            )


def _snr(name: str, rows: tuple[Snr, ...], limit: float) -> Gate:
    finite = [row for row in rows if row.pooled is not None]
    worst = min((row.pooled for row in finite if row.pooled is not None), default=None)
    value = "exact" if worst is None else f"{worst:.1f} dB"
    return _gate(name, "accuracy", f">= {limit:g} dB", value, worst is None or worst >= limit)


def _gate(name: str, family: str, limit: str, value: str, passed: bool) -> Gate:
    return Gate(name=name, family=family, limit=limit, value=value, passed=passed)


def raise_on_failure(gates: Sequence[Gate], said: str = "", causes: Sequence[str] = ()) -> None:
    """AccuracyError or BudgetError listing every gate that failed, and `causes`; accuracy decides when both kinds did.
    `said` tells when they were judged.
    """
    failed = [gate for gate in gates if not gate.passed]
    if not failed:
        return
    kind = AccuracyError if any(gate.family == "accuracy" for gate in failed) else BudgetError
    raise kind(
        f"{len(failed)} of {len(gates)} gates failed{said}",
        where=[*(f"{gate.label}  {gate.value}, must be {gate.limit}" for gate in failed), *causes],
        try_="the report names the outputs, and the layers where int8 loses them; loosen a gate only in the recipe",
    )
