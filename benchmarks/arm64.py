"""Emulated ARM cores: instructions and bytes of int8 against float, the operators that cost most, and whether int8
gives the same codes as on this machine.

    edge-export setup arm64
    python benchmarks/arm64.py [--models fasternet_t0 efficientdet_d0] [--photos 4] [--without-counts]

Seeded random weights. EfficientDet-D0 takes some minutes: float arithmetic is emulated one lane at a time. Counts are
of one inference on one thread after one that is not counted; time under emulation is none, and none is shown.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from exporter.bundle import read_manifest
from exporter.report import figures
from exporter.report.devices import counts as counts_table
from exporter.report.devices import expensive, parity
from exporter.report.parts import Column, Table
from exporter.report.sheet import print_sheet
from exporter.verify.devices import Job, device
from exporter.verify.devices.apart import apart
from exporter.verify.devices.arm64 import counts
from exporter.verify.on_device import Reference
from exporter.verify.subjects import files_of, subjects

CORES = ("arm64:cortex-a53", "arm64:cortex-a76")
PRECISIONS = {"int8": ["--int8"], "float32": []}


def main() -> None:
    """Export, run and count each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["fasternet_t0", "efficientdet_d0"])
    parser.add_argument("--photos", type=int, default=4)
    parser.add_argument("--without-counts", action="store_true", help="codes alone")
    arguments = parser.parse_args()
    for model in arguments.models:
        with tempfile.TemporaryDirectory() as folder:
            _measure(model, arguments.photos, Path(folder), counted=not arguments.without_counts)


def _measure(model: str, photos: int, folder: Path, *, counted: bool) -> None:
    precisions = PRECISIONS if counted else ("int8",)
    bundles = {precision: _export(model, precision, folder) for precision in precisions}
    files = {
        precision: subjects(bundle, files_of(read_manifest(bundle)), str(photos))[0]
        for precision, bundle in bundles.items()
    }
    reference = Reference(files["int8"])
    rows = []
    for name in CORES:
        row = reference.check(device(name))
        if row.problem is not None:
            raise SystemExit(str(row.problem.error()))
        if counted:
            each = {precision: counts(device(name), Job(file.path, file.feeds)) for precision, file in files.items()}
            row = row.model_copy(update={"counts": each})
        rows.append(row)
    console = Console(width=160, highlight=False)
    console.print(
        f"\n{model}, seeded random weights, {rows[0].runtime}, {device(CORES[0]).emulator}; {photos} photos\n"
    )
    tables = (parity(rows), _differing(files["int8"].path), counts_table(rows), expensive(rows))
    print_sheet(console, "", *filter(None, tables))


def _differing(path: Path) -> Table:
    """Kinds of operators, each by itself from random codes, that give other codes there."""
    cells = []
    for name in CORES:
        rows = apart(device(name), path)
        for kind in sorted({row.op for row in rows}):
            each = [row for row in rows if row.op == kind]
            differ = [row for row in each if row.differing]
            worst = max(row.differing / row.elements for row in each)
            most = max(row.most for row in each)
            cells.append((name, kind, str(len(each)), str(len(differ)), figures.share(worst), f"{most:g}"))
    titles = ("device", "op"), ("in the file", "differ", "of the worst's codes", "max LSB")
    columns = (*(Column(title, numeric=False) for title in titles[0]), *map(Column, titles[1]))
    return Table("Operators by themselves", columns, tuple(cells), "From random codes, against this machine.")


def _export(model: str, precision: str, folder: Path) -> Path:
    out = folder / precision
    command = [sys.executable, "-m", "exporter.cli", model, *PRECISIONS[precision], "--out", str(out), "--quiet"]
    done = subprocess.run(command, check=False)
    if done.returncode not in (0, 5):  # 5: random weights may miss an accuracy gate
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}")
    return out


if __name__ == "__main__":
    main()
