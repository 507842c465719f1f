"""Write the project's own demo sample, calib_data/demo: python -m benchmarks.demo.sample [FOLDER]

For each task the first pictures of the calibration split, and of the evaluation split with labels; which share none
with each other or with the training pictures. manifest.json lists them all with their licence.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from pathlib import Path

from benchmarks.demo.scenes import TASKS
from benchmarks.demo.sets import labelled
from exporter.quantize.data import MANIFEST, own_samples_dir

CALIBRATION, EVALUATION = 36, 48
"""Pictures of each task. Every eighth of the former, at most four, is held out of calibration."""


def write(folder: Path) -> None:
    """All of it, in place of what lies in `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    for task in TASKS:
        labelled(task, "calibration", CALIBRATION, folder / task / "calibration")
        labelled(task, "evaluation", EVALUATION, folder / task / "evaluation")
    files = [
        {
            "file": path.relative_to(folder).as_posix(),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "author": "edge-export",
            "licence": "Apache-2.0",
        }
        for path in sorted(folder.rglob("*.jpg"))
    ]
    content = {"name": "edge-export demo scenes", "source": "python -m benchmarks.demo.sample", "files": files}
    (folder / MANIFEST).write_text(json.dumps(content, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo.sample", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=own_samples_dir() / "demo")
    write(parser.parse_args().folder)


if __name__ == "__main__":
    main()
