"""What an export costs: CPU seconds and peak memory of every stage, and the whole command against its floor.

    python benchmarks/export_cost.py [--model efficientdet_d0] [--calib FOLDER] [--images 32]

The floor is what no exporter can avoid: importing torch, `torch.export.export`, and one float forward pass for each
calibration picture by the fastest engine of those tried (eager torch, channels-last torch, LiteRT on our own float32
file). Floor and command run one after the other in processes of their own, with the same weights and pictures. Both
include Python's start-up. Measure on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

FLOOR = """
import json, sys, time
start = time.process_time()
import torch
imported = time.process_time()
name, weights, file, calib, images = sys.argv[1:6]
from exporter.build import build_model, load_weights
from exporter.recipe import load_recipe
from exporter.quantize.data import load_samples, default_samples_dir
recipe = load_recipe(name)
model = build_model(name, recipe.preprocess.size)
load_weights(model, weights)
x = torch.zeros(1, 3, *recipe.preprocess.size)
begin = time.process_time()
torch.export.export(model, (x,), strict=False)
exported = time.process_time()
samples = [x for x in load_samples(calib or default_samples_dir(), recipe.preprocess, int(images))]
from exporter.verify.runtimes.litert import LiteRT
runtime = LiteRT(file, threads=1)
feeds = [[x.permute(0, 2, 3, 1).contiguous().numpy()] for x in samples]
last = x.contiguous(memory_format=torch.channels_last)
engines = {}
with torch.no_grad():
    for threads in (1, torch.get_num_threads()):
        torch.set_num_threads(threads)
        for label, network, to in (
            ("torch", model, lambda x: x),
            ("torch channels-last", model.to(memory_format=torch.channels_last),
             lambda x: x.contiguous(memory_format=torch.channels_last)),
        ):
            network(to(samples[0]))
            begin_pass = time.process_time()
            for x in samples:
                network(to(x))
            engines[f"{label}, {threads} thread(s)"] = time.process_time() - begin_pass
runtime.run(feeds[0])
begin_pass = time.process_time()
for feed in feeds:
    runtime.run(feed)
engines[f"{runtime.runtime}, 1 thread"] = time.process_time() - begin_pass
print(json.dumps({"import": imported - start, "export": exported - begin, "engines": engines, "images": len(samples)}))
"""


def main() -> None:
    """Run the floor and the command and print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="efficientdet_d0")
    parser.add_argument("--calib", default="", help="folder of at least IMAGES + 4 pictures (default: our own sample)")
    parser.add_argument("--images", type=int, default=28)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        weights, file = _prepare(arguments.model, Path(folder))
        floor = _floor(arguments, weights, file)
        report, cpu_s, peak_mb = _command(arguments, weights, Path(folder))
    _show(arguments, floor, report, cpu_s, peak_mb)


def _prepare(model: str, folder: Path) -> tuple[Path, Path]:
    """Seeded random weights as a checkpoint, and our float32 file of them for the floor's engines."""
    program = (
        "import sys, torch; from exporter.build import build_model; from exporter.recipe import load_recipe;"
        "r = load_recipe(sys.argv[1]); m = build_model(sys.argv[1], r.preprocess.size);"
        "torch.save(m.state_dict(), sys.argv[2])"
    )
    weights = folder / "weights.pth"
    subprocess.run([sys.executable, "-c", program, model, str(weights)], check=True)
    options = ["--weights", str(weights), "--stop-after", "lower", "--out", str(folder / "float"), "--quiet"]
    subprocess.run([sys.executable, "-m", "exporter.cli", model, *options], check=True)
    return weights, folder / "float" / f"{model}.tflite"


def _floor(arguments: argparse.Namespace, weights: Path, file: Path) -> dict[str, Any]:
    command = [sys.executable, "-c", FLOOR, arguments.model, str(weights), str(file), arguments.calib]
    done = subprocess.run([*command, str(arguments.images)], check=True, capture_output=True, text=True)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def _command(arguments: argparse.Namespace, weights: Path, folder: Path) -> tuple[dict[str, Any], float, float]:
    """The report of the whole command, its CPU seconds with its children's, and its peak memory in MB."""
    options = ["--int8", "--weights", str(weights), "--images", str(arguments.images), "--json"]
    options += ["--out", str(folder / "int8"), *(["--calib", arguments.calib] if arguments.calib else [])]
    program = [sys.executable, "-m", "exporter.cli", arguments.model, *options]
    with (folder / "stdout").open("w") as output:
        child = subprocess.Popen(program, stdout=output)
        _, status, usage = os.wait4(child.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, 5):  # 5: random weights may miss an accuracy gate; the cost is the same
        raise SystemExit(f"{' '.join(program)} ended with {code}")
    report = json.loads((folder / "int8" / "report.json").read_text())
    return report, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6


def _show(
    arguments: argparse.Namespace, floor: dict[str, Any], report: dict[str, Any], cpu_s: float, peak_mb: float
) -> None:
    console = Console()
    engine, passes = min(floor["engines"].items(), key=lambda entry: float(entry[1]))
    least = floor["import"] + floor["export"] + passes
    console.print(f"{arguments.model}, {floor['images']} calibration pictures, {report['processor']}")
    console.print(f"weights: seeded random; {', '.join(f'{k} {v}' for k, v in report['versions'].items())}\n")
    table = Table("floor", "CPU s")
    table.add_row("import torch", f"{floor['import']:.2f}")
    table.add_row("torch.export.export", f"{floor['export']:.2f}")
    for name, seconds in floor["engines"].items():
        table.add_row(f"{floor['images']} passes: {name}", f"{seconds:.2f}" + (" <" if name == engine else ""))
    table.add_row("sum, with the fastest engine", f"{least:.2f}")
    console.print(table)
    table = Table("stage", "wall s", "CPU s", "peak MB")
    for stage in report["stages"]:
        values = (f"{stage['wall_s']:.2f}", f"{stage['cpu_s']:.2f}", f"{stage['peak_mb']:.0f}")
        table.add_row(stage["stage"], *values)
    table.add_row("whole command", "", f"{cpu_s:.2f}", f"{peak_mb:.0f}")
    console.print(table)
    console.print(f"whole command / floor: {cpu_s / least:.2f} x")


if __name__ == "__main__":
    main()
