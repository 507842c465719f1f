"""Labelled scenes made by a procedure, and the training of the demo weights on them.

    python -m benchmarks.demo.make detection evaluation 500 FOLDER      write a labelled set for --eval
    python -m benchmarks.demo.train efficientdet_d0 --out FILE          train weights

`labelled` does the former from Python.
"""

from benchmarks.demo.sets import labelled

__all__ = ["labelled"]
