"""The .mlpackage: a folder of a manifest, the model's specification and its weights, the same bytes on every run.

Layout, and the fields of the manifest: coremltools modelpackage/src/ModelPackage.cpp.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from pathlib import Path

from exporter.ir.graph import Graph
from exporter.lower.coreml.classifier import add_classifier, is_classifier
from exporter.lower.coreml.description import describe
from exporter.lower.coreml.detector import detection_node, with_suppression
from exporter.lower.coreml.schema import MIL, Model
from exporter.lower.facts import Facts

SPECIFICATION = {15: 6, 16: 7, 17: 8, 18: 9}
"""iOS version -> the specification's. Source: coremltools/__init__.py."""
AUTHOR = "com.apple.CoreML"
MODEL, WEIGHTS = f"{AUTHOR}/model.mlmodel", f"{AUTHOR}/weights"
"""Paths of the two items below Data."""
_DESCRIPTIONS = {MODEL: "CoreML Model Specification", WEIGHTS: "CoreML Model Weights"}


def write_package(path: Path, program: MIL.Program, weights: Path, graph: Graph, facts: Facts, min_os: int) -> None:
    """Write the package `path` of an ML program whose inputs and outputs bear the model's names.

    `weights` is the program's blob file, which is copied; `min_os` is 15 to 18 (iOS). A classifier gets its labels as
    Vision wants them, a graph with detection_postprocess becomes a pipeline of program and non-maximum suppression.
    """
    model = Model.Model(specificationVersion=SPECIFICATION[min_os], mlProgram=program)
    if is_classifier(graph, facts):
        add_classifier(model, graph, facts)
    describe(model, graph, facts)
    if node := detection_node(graph):
        model = with_suppression(model, node, facts)
    data = path / "Data"
    (data / WEIGHTS).mkdir(parents=True, exist_ok=True)
    (data / MODEL).write_bytes(model.SerializeToString(deterministic=True))
    shutil.copyfile(weights, data / WEIGHTS / "weight.bin")
    (path / "Manifest.json").write_text(json.dumps(_manifest(data), indent=4, sort_keys=True) + "\n")


def _manifest(data: Path) -> dict[str, object]:
    """Identifiers are derived from the items' bytes, where Apple's tools draw them."""
    content = {MODEL: data / MODEL, WEIGHTS: data / WEIGHTS / "weight.bin"}
    identifiers = {
        item: str(uuid.uuid5(uuid.NAMESPACE_OID, f"{item} {hashlib.sha256(file.read_bytes()).hexdigest()}"))
        for item, file in content.items()
    }
    entries = {
        identifiers[item]: {"author": AUTHOR, "description": text, "name": Path(item).name, "path": item}
        for item, text in _DESCRIPTIONS.items()
    }
    return {"fileFormatVersion": "1.0.0", "itemInfoEntries": entries, "rootModelIdentifier": identifiers[MODEL]}
