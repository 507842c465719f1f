"""What TFLite_Detection_PostProcess costs: EfficientDet-D0's 49104 anchors and 90 classes, one thread.

    python benchmarks/nms_cost.py

The figures of recipes/README.md, "Post-processing of detectors": minima of 8 runs.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console

from exporter.build import build_model
from exporter.ir.graph import Graph
from exporter.lower.facts import Facts
from exporter.lower.tflite import TFLite
from exporter.verify.processor import processor
from exporter.verify.runtimes.litert import LiteRT

CLASSES, THRESHOLD = 90, 0.05
SHARES = (0.0, 0.01, 0.1, 1.0)


def main() -> None:
    """One line for each share of anchors with a score above the threshold."""
    console = Console(highlight=False)
    priors = build_model("efficientdet_d0").priors()  # type: ignore[operator]
    generator, anchors = np.random.default_rng(0), len(priors)
    codes = generator.normal(0, 0.2, (1, anchors, 4)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        runtimes = {per_class: operator(priors, per_class, Path(folder)) for per_class in (False, True)}
        console.print(f"{anchors} anchors, {CLASSES} classes, {processor()}")
        for share in SHARES:
            scores = generator.uniform(0, THRESHOLD - 1e-3, (1, anchors, CLASSES)).astype(np.float32)
            rows = generator.permutation(anchors)[: int(share * anchors)]
            scores[0, rows, generator.integers(0, CLASSES, len(rows))] = generator.uniform(THRESHOLD, 1, len(rows))
            best, every = (r.latency([codes, scores], runs=8, warmup=2).min_ms for r in runtimes.values())
            console.print(f"{share:4.0%} of the anchors above: best class {best:6.1f} ms, per class {every:6.1f} ms")


def operator(priors: object, per_class: bool, folder: Path) -> LiteRT:
    """A file of the one operator."""
    graph = Graph("nms")
    anchors = graph.constant("anchors", priors)  # type: ignore[arg-type]
    codes = graph.add_input("codes", (1, anchors.shape[0], 4))
    scores = graph.add_input("scores", (1, anchors.shape[0], CLASSES))
    settings = {"score_threshold": THRESHOLD, "iou_threshold": 0.5, "max_detections": 100, "per_class": per_class}
    found = graph.emit_all("detection_postprocess", [codes, scores, anchors], **settings)
    graph.set_outputs(dict(zip(("boxes", "classes", "scores_out", "count"), found, strict=True)))
    path = folder / f"{per_class}.tflite"
    TFLite().write(graph, path, Facts("nms"))
    return LiteRT(path)


if __name__ == "__main__":
    main()
