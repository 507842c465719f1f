"""Write a labelled set: python -m benchmarks.demo.make detection evaluation 500 FOLDER. See `sets.labelled`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.demo.scenes import SPLITS, TASKS
from benchmarks.demo.sets import labelled


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo.make", description=__doc__)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("split", choices=SPLITS)
    parser.add_argument("count", type=int)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    sys.stdout.write(f"{labelled(given.task, given.split, given.count, given.folder)}\n")


if __name__ == "__main__":
    main()
