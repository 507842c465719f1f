"""Peak memory of calibration on 10 and on 100 images, each in a process of its own: it may not grow with their number.

    python benchmarks/calibration_memory.py [--model fasternet_t0] [--size 224x224] [--method mse] [--photos FOLDER]

Without --photos, distinct crops of the project's own pictures. Exits with 1 where 100 images take more than 5 % more.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from rich.console import Console

from exporter.capture import capture
from exporter.inputs import load_inputs
from exporter.quantize.calibrate import observe
from exporter.quantize.data import default_samples_dir, load_samples
from exporter.quantize.guards import few_pictures
from exporter.quantize.pictures import pictures_below
from exporter.quantize.preprocess import Preprocess
from exporter.quantize.sample_guards import Watch
from exporter.recipe import load_recipe
from exporter.simplify import simplify
from exporter.verify.processor import processor

COUNTS = (10, 100)
MOST = 1.05
SIDE = 0.7
"""Of a picture's sides: what a crop keeps."""


def main() -> None:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="fasternet_t0")
    parser.add_argument("--size", default="224x224")
    parser.add_argument("--method", default="mse")
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--child", nargs=2, metavar=("FOLDER", "COUNT"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        folder, count = asked.child
        sys.stdout.write(f"{_peak(asked, Path(folder), int(count))}\n")
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.photos or _crops(Path(scratch))
        peaks = {count: _measured(folder, count) for count in COUNTS}
    few, many = (peaks[count] for count in COUNTS)
    ratio = many / few
    each = ", ".join(f"{peak / 1024:.1f} MB with {count} images" for count, peak in peaks.items())
    Console().print(f"{asked.model} at {asked.size}, {asked.method}, {processor()}: peak {each}, ratio {ratio:.3f}")
    if ratio > MOST:
        Console(stderr=True).print(f"calibration's memory grows with the images: {ratio:.3f} is more than {MOST}")
        raise SystemExit(1)


def _measured(folder: Path, count: int) -> int:
    """Peak kB of a new process that calibrates on so many images."""
    command = [sys.executable, __file__, *sys.argv[1:], "--child", str(folder), str(count)]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def _peak(asked: argparse.Namespace, folder: Path, count: int) -> int:
    """What the pipeline does up to ranges and their guards, and the process's peak resident memory in kB."""
    size = tuple(map(int, asked.size.split("x")))
    inputs = load_inputs(load_recipe(asked.model, preprocess={"size": size}, weights="random"))
    samples = load_samples(folder, Preprocess(size=size), count)
    if len(samples) != count:
        raise SystemExit(f"{folder} has {len(samples)} pictures, and {count} are needed")
    graph = capture(inputs.module, inputs.example)
    simplify(graph)
    watch = Watch()
    _, extremes = observe(graph, watch.over(samples.feeds()), asked.method)
    few_pictures(graph, extremes)
    return _high_water()


def _high_water() -> int:
    """Peak resident kB. Of the program alone: getrusage's peak is the parent's too, where that was larger at exec."""
    status = Path("/proc/self/status")
    if not status.is_file():
        raise SystemExit("peaks are read from /proc/self/status: run it on Linux")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1])


def _crops(folder: Path) -> Path:
    """Five crops of each of the project's own pictures."""
    for name, path in pictures_below(default_samples_dir()).items():
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        width, height = round(image.width * SIDE), round(image.height * SIDE)
        right, low = image.width - width, image.height - height
        for i, (left, top) in enumerate([(0, 0), (right, 0), (0, low), (right, low), (right // 2, low // 2)]):
            image.crop((left, top, left + width, top + height)).save(folder / f"{Path(name).stem}-{i}.jpg", quality=90)
    return folder


if __name__ == "__main__":
    main()
