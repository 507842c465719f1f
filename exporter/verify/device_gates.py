"""The recipe's conditions on what devices gave, and on what it costs there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from exporter.recipe import Gates
from exporter.verify.gates import metric_drop
from exporter.verify.on_device import DeviceCheck
from exporter.verify.results import Evaluation, Gate

CountKey = tuple[str, str, str]
"""Device, target, precision."""


def judge_devices(rows: Sequence[DeviceCheck], gates: Gates, baseline: Sequence[DeviceCheck] = ()) -> tuple[Gate, ...]:
    """One Gate for every condition that is on and that something was measured for, device by device."""
    before = {key: (row, row.counts[key[2]].instructions) for row in baseline for key in counted(row)}
    return tuple(
        gate.model_copy(update={"target": row.target, "device": row.device})
        for row in rows
        for gate in (*_parity(row, gates), *_time(row, gates), *_instructions(row, gates, before))
    )


def judge_evaluation(found: Evaluation | None, checks: Sequence[DeviceCheck], gates: Gates) -> Iterator[Gate]:
    """The main metric on each device that is judged, against the first file's on this machine."""
    judged = {(check.target, check.device) for check in checks if check.judged}
    if found is None or gates.metric_drop is None:
        return
    for row in found.scores:
        if row.metric == found.metric and row.drop is not None and (row.target, row.device) in judged:
            gate = metric_drop(row, row.drop, gates.metric_drop)
            yield gate.model_copy(update={"target": row.target, "device": row.device})


def counted(row: DeviceCheck) -> list[CountKey]:
    """What instructions were counted of."""
    return [(row.device, row.target, precision) for precision in row.counts]


def _parity(row: DeviceCheck, gates: Gates) -> Iterator[Gate]:
    if not row.judged:
        return
    if row.codes and gates.device_equal is not None:
        worst = min(each.equal for each in row.codes)
        limit = f">= {gates.device_equal:.4%}"
        yield _gate("codes equal to this machine's", "accuracy", limit, f"{worst:.4%}", worst >= gates.device_equal)
    if row.codes and gates.device_lsb is not None:
        most = max(each.max_lsb for each in row.codes)
        limit = f"<= {gates.device_lsb} LSB"
        yield _gate("difference from this machine", "accuracy", limit, f"{most} LSB", most <= gates.device_lsb)
    if row.floats and gates.device_snr is not None:
        least = min((each.pooled for each in row.floats if each.pooled is not None), default=None)
        value = "exact" if least is None else f"{least:.1f} dB"
        passed = least is None or least >= gates.device_snr
        yield _gate("SNR against this machine", "accuracy", f">= {gates.device_snr:g} dB", value, passed)
    for found in row.detections:
        if gates.same_detections is not None and (found.expected or found.found):
            limit, passed = f">= {gates.same_detections:.2%}", found.share >= gates.same_detections
            yield _gate("detections of this machine", "accuracy", limit, f"{found.share:.2%}", passed)


def _time(row: DeviceCheck, gates: Gates) -> Iterator[Gate]:
    floats = next((row.latency[name] for name in row.latency if name.startswith("float")), None)
    if gates.latency_ratio is not None and floats is not None and "int8" in row.latency:
        ratio = row.latency["int8"].median_ms / floats.median_ms
        passed = ratio <= gates.latency_ratio
        yield _gate("int8 / float time", "latency", f"<= {gates.latency_ratio:g}", f"{ratio:.2f}", passed)


def _instructions(row: DeviceCheck, gates: Gates, before: dict[CountKey, tuple[DeviceCheck, int]]) -> Iterator[Gate]:
    for key in counted(row) if gates.instructions is not None else ():
        if key in before and gates.instructions is not None:
            then, instructions = before[key]
            rise = row.counts[key[2]].instructions / instructions - 1
            other = f" (baseline: {then.runtime})" if then.runtime != row.runtime else ""
            limit, passed = f"<= {gates.instructions:+.3%}", rise <= gates.instructions
            yield _gate(f"{key[2]} instructions", "instructions", limit, f"{rise:+.3%}{other}", passed)


def _gate(name: str, family: str, limit: str, value: str, passed: bool) -> Gate:
    return Gate(name=name, family=family, limit=limit, value=value, passed=passed)
