"""What a bundle's files gave on devices, as facts and tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from exporter.report import figures
from exporter.report.figures import ABSENT, plural
from exporter.report.parts import Column, Fact, Table
from exporter.verify.devices.facts import EmulatedDevice, Latency, RealDevice
from exporter.verify.on_device import DeviceCheck

MOST_EXPENSIVE = 5
"""Operators shown of each file that was counted."""


def facts(rows: Sequence[DeviceCheck]) -> Iterator[Fact]:
    """Each device with what ran of each file there, or why nothing did."""
    for device, each in by_device(rows).items():
        machine = next((_machine(row.facts) for row in each if row.facts), "")
        yield Fact(device, machine or "nothing ran there")
        for row in each:
            if row.problem:
                yield Fact("", f"{row.file} did not run: {row.problem.what}", loud=True)
            else:
                ran = f"{row.file}: {row.runtime}, against {row.reference} here"
                yield Fact("", f"{ran}, {plural(row.samples, 'input')}")
                yield from (Fact("", f"differs first at {op}") for op in row.differing)
    yield from (Fact("", note) for note in dict.fromkeys(note for row in rows for note in row.notes))


def by_device(rows: Sequence[DeviceCheck]) -> dict[str, list[DeviceCheck]]:
    """In the order in which they were asked for."""
    return {device: [row for row in rows if row.device == device] for device in dict.fromkeys(r.device for r in rows)}


def tables(rows: Sequence[DeviceCheck]) -> tuple[Table | None, ...]:
    """Parity, latency, counts, and the operators that cost most, device by device."""
    rows = [row for each in by_device(rows).values() for row in each]
    return parity(rows), latency(rows), counts(rows), expensive(rows)


def parity(rows: Sequence[DeviceCheck]) -> Table | None:
    """Every output on every device against this machine's: int8 codes in LSB, floats in dB, detections in pairs."""
    text = ("device", "file", "output")
    columns = [*(Column(title, numeric=False) for title in text), *map(Column, ("equal", "max LSB", "dB", "max error"))]
    cells = []
    for row in rows:
        place = (row.device, row.target)
        cells += [(*place, c.output, figures.share(c.equal), str(c.max_lsb), ABSENT, ABSENT) for c in row.codes]
        for snr in row.floats:
            db, error = figures.decibels(snr.pooled), figures.error(snr.max_error)
            cells.append((*place, snr.output, ABSENT, ABSENT, db, error))
        for found in row.detections:
            cells.append((*place, "detections", figures.share(found.share), ABSENT, ABSENT, ABSENT))
    note = "Equal: int8 codes, or detections that pair up. Against this machine, on the same inputs."
    return Table("Devices against this machine", tuple(columns), tuple(cells), note) if cells else None


def latency(rows: Sequence[DeviceCheck]) -> Table | None:
    """Wall time on real devices, where and how it was taken; int8 against float on the same device."""
    text = ("device", "file")
    figured = ("median ms", "p90 ms", "min ms", "time vs float", "threads", "cores", "governor", "°C", "runs")
    columns = [*(Column(title, numeric=False) for title in text), *map(Column, figured)]
    cells = [
        (
            row.device,
            f"{row.target} {precision}",
            *(figures.milliseconds(value) for value in (time.median_ms, time.p90_ms, time.min_ms)),
            figures.ratio(time.median_ms, _float(row.latency)),
            str(time.threads),
            cores(time.device),
            time.device.governor or ABSENT,
            heat(time.device),
            str(time.runs),
        )
        for row in rows
        for precision, time in row.latency.items()
    ]
    x86 = dict.fromkeys(row.device for row in rows for time in row.latency.values() if time.device.machine == "x86_64")
    note = f"Measured on x86, not on a mobile processor: {', '.join(x86)}" if x86 else ""
    return Table("Latency on devices", tuple(columns), tuple(cells), note) if cells else None


def heat(device: RealDevice) -> str:
    """The hottest core, and whether the system slowed it down."""
    celsius = ABSENT if device.celsius is None else f"{device.celsius:.0f}"
    return f"{celsius}, throttling {device.throttling}" if device.throttling not in ("", "none") else celsius


def counts(rows: Sequence[DeviceCheck]) -> Table | None:
    """Instructions and bytes of one inference on emulated devices."""
    text = ("device", "file")
    figured = ("M instructions", "vs float", "MB loaded", "vs float", "MB stored")
    columns = [*(Column(title, numeric=False) for title in text), *map(Column, figured)]
    cells = []
    for row in rows:
        floats = next((row.counts[name] for name in row.counts if name.startswith("float")), None)
        for precision, counted in row.counts.items():
            cells.append(
                (
                    row.device,
                    f"{row.target} {precision}",
                    f"{counted.instructions / 1e6:,.2f}",
                    figures.ratio(counted.instructions, floats.instructions if floats else 0),
                    figures.megabytes(counted.loaded_bytes),
                    figures.ratio(counted.loaded_bytes, floats.loaded_bytes if floats else 0),
                    figures.megabytes(counted.stored_bytes),
                )
            )
    note = "Counted under emulation, of one inference on one thread: a proxy of cost, no latency."
    return Table("Instructions", tuple(columns), tuple(cells), note) if cells else None


def expensive(rows: Sequence[DeviceCheck]) -> Table | None:
    """The operators that take most instructions, of each file that was counted operator by operator."""
    text = ("device", "file", "op", "output")
    columns = [*(Column(title, numeric=False) for title in text), *map(Column, ("M instructions", "share"))]
    cells = []
    for row in rows:
        for precision, counted in row.counts.items():
            for op in sorted(counted.ops, key=lambda op: -op.instructions)[:MOST_EXPENSIVE]:
                place = (row.device, f"{row.target} {precision}", op.op, op.name)
                share = figures.share(op.instructions / counted.instructions)
                cells.append((*place, f"{op.instructions / 1e6:,.2f}", share))
    return Table("Most expensive operators", tuple(columns), tuple(cells)) if cells else None


def cores(device: RealDevice) -> str:
    """`0-3,6`: those that the runner may use."""
    runs: list[list[int]] = []
    for core in device.cores:
        if runs and runs[-1][-1] == core - 1:
            runs[-1].append(core)
        else:
            runs.append([core])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs) or ABSENT


def _machine(device: RealDevice | EmulatedDevice) -> str:
    emulated = f", emulated by {device.emulator}: no latency" if isinstance(device, EmulatedDevice) else ""
    return ", ".join(part for part in (device.processor, device.system) if part) + emulated


def _float(latency: dict[str, Latency]) -> float:
    return next((row.median_ms for name, row in latency.items() if name.startswith("float")), 0.0)
