"""Every EfficientDet through capture, simplify and the TFLite writer, at a size that is quick to run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from exporter.build import build_model, list_models
from exporter.capture import capture
from exporter.ir.graph import Graph
from exporter.lower.facts import Facts
from exporter.lower.tflite import TFLite
from exporter.quantize import quantize
from exporter.simplify import simplify
from exporter.verify.runtimes.litert_file import read_file

NAMES = [info.name for info in list_models() if "efficientdet" in info.name]
QUICK = {"efficientdet_d0", "tf_efficientdet_lite0"}
SIZE = 128


def captured(name: str, size: int = SIZE) -> Graph:
    model = build_model(name, size)
    return simplify(capture(model, (torch.zeros(1, 3, size, size),), name=name, output_names=model.output_names))


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in NAMES])
def test_no_variant_needs_a_transpose_or_keeps_a_batch_norm(name: str, tmp_path: Path) -> None:
    graph = captured(name)
    assert not {"batch_norm", "transpose", "reshape", "pad", "div"} & {node.op.name for node in graph.nodes}
    TFLite().write(graph, tmp_path / "model.tflite", Facts(name))
    assert "TRANSPOSE" not in {op.name for op in read_file(tmp_path / "model.tflite").ops}


def test_an_int8_file_of_the_segmentation_variant_is_integer_throughout(tmp_path: Path) -> None:
    graph = captured("efficientdet_d4_seg")
    quantize(graph, {v.name: (-4.0, 4.0) for v in graph.values() if v.const is None}, io="int8")
    TFLite().write(graph, tmp_path / "model.tflite", Facts("seg", "int8"))
    assert read_file(tmp_path / "model.tflite").float_tensors == ()


def test_d0_keeps_the_models_convolutions_and_nothing_else_that_is_heavy() -> None:
    ops = Counter(node.op.name for node in captured("efficientdet_d0", 512).nodes)
    assert (ops["conv2d"], ops["silu"], ops["max_pool2d"], ops["resize_nearest"]) == (214, 102, 14, 12)
