"""The figures of a bundle, or of what `verify --json` printed of one: place by place."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from exporter.errors import DataError
from exporter.verify.baseline import read_check
from exporter.verify.on_device import DeviceCheck
from exporter.verify.results import Evaluation, Gate, Measurements, Report, Snr

Key = tuple[str, str]
"""Place (target, with precision and device where there are such), and kind."""
Figure = tuple[str, str, str, float]
"""The same, the output where there are several, and the value."""


@dataclass(frozen=True)
class Side:
    """A bundle, or what `verify --json` printed of one."""

    name: str
    report: Report
    devices: tuple[DeviceCheck, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    gates: tuple[Gate, ...] = ()


def read_side(path: Path) -> Side:
    """Raises DataError for anything that is neither, or was not measured."""
    if not path.is_dir():
        check = read_check(path)
        if check.report is None:
            raise DataError(f"{path} holds no figures", why="its export stopped before the report", try_="export again")
        exported = check.report.verification.evaluation if check.report.verification else None
        evaluations = tuple(each for each in (exported, check.evaluation) if each)
        return Side(str(path), check.report, check.devices, evaluations, (*check.exported, *check.gates))
    try:
        report = Report.model_validate_json((path / "report.json").read_text())
    except OSError as error:
        why = f"no readable report.json: {error.strerror}"
        raise DataError(f"{path} is no finished bundle", why=why, try_="a bundle, or the JSON of verify") from error
    except ValidationError as error:
        raise DataError(
            f"{path}/report.json is damaged", why=str(error).splitlines()[0], try_="export again"
        ) from error
    found = report.verification
    evaluations = (found.evaluation,) if found and found.evaluation else ()
    return Side(str(path), report, evaluations=evaluations, gates=found.gates if found else ())


def figures_of(side: Side) -> dict[Key, dict[str, float]]:
    """Every figure: place and kind -> output -> value."""
    found: dict[Key, dict[str, float]] = {}
    scored = (figure for evaluation in side.evaluations for figure in _scored(evaluation))
    for place, kind, item, value in (*_exported(side.report), *_on_devices(side.devices), *scored):
        found.setdefault((place, kind), {})[item] = value
    return found


def _exported(report: Report) -> Iterator[Figure]:
    found = report.verification
    if found is None:
        return
    for each in found.targets:
        yield from _measured(each)


def _scored(found: Evaluation) -> Iterator[Figure]:
    """The main metric of shipped files, here and on devices."""
    for score in found.scores:
        if score.shipped and score.metric == found.metric and score.value is not None:
            place = f"{score.target} on {score.device}" if score.device else score.target
            yield f"{place}, {found.images} pictures of {found.source}", "task metric", score.metric, 100 * score.value


def _measured(found: Measurements) -> Iterator[Figure]:
    place, shipped = found.target, found.files[0]
    yield place, "size", "", shipped.size_bytes
    yield place, "ops", "", shipped.total_ops
    yield place, "transposes", "", shipped.transposes
    if shipped.partitions is not None:
        yield place, "partitions", "", shipped.partitions
    if shipped.precision == "int8":
        yield place, "integer ops", "", shipped.integer_share
    yield from ((place, "float SNR", row.output, _decibels(row)) for row in found.float_parity)
    yield from ((place, "int8 SNR", row.output, _decibels(row)) for row in found.int8_snr)
    for row in found.integer_parity:
        yield place, "codes equal to the interpreter's", row.output, row.equal
        yield place, "difference from the interpreter", row.output, row.max_lsb
    for precision, time in found.latency.items():
        yield f"{place} {precision} on {time.device.processor}", "fastest run", "", time.min_ms


def _on_devices(rows: Sequence[DeviceCheck]) -> Iterator[Figure]:
    for row in rows:
        place = f"{row.target} on {row.device}"
        for codes in row.codes if row.judged else ():
            yield place, "codes equal to this machine's", codes.output, codes.equal
            yield place, "difference from this machine", codes.output, codes.max_lsb
        yield from ((place, "SNR against this machine", snr.output, _decibels(snr)) for snr in row.floats)
        for precision, time in row.latency.items():
            threads = f"{time.threads} threads of " if time.threads > 1 else ""
            yield (
                f"{row.target} {precision} on {row.device}, {threads}{time.device.processor}",
                "fastest run",
                "",
                time.min_ms,
            )
        for precision, counted in row.counts.items():
            yield f"{row.target} {precision} on {row.device}", "instructions", "", counted.instructions
            yield f"{row.target} {precision} on {row.device}", "bytes loaded", "", counted.loaded_bytes


def _decibels(row: Snr) -> float:
    return math.inf if row.pooled is None else row.pooled
