"""The darknet layout through capture, simplify, int8 and the TFLite writer, at a size that is quick to run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from parity import check_float, check_int8, image, simplified, write

from exporter.build import build_model, refit_batchnorm
from exporter.build.darknet_variants import CLASSIFIERS, DETECTORS
from exporter.quantize import quantize
from exporter.verify.runtimes.litert_file import read_file

NAMES = [row[0] for row in (*CLASSIFIERS, *DETECTORS)]
QUICK = ("csresnet50", "csdarknet53_elastic")
SIZE = 64


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in NAMES])
def test_an_int8_file_of_every_variant_is_integer_throughout_and_needs_no_transpose(name: str, tmp_path: Path) -> None:
    graph = simplified(build_model(name, SIZE), torch.zeros(1, 3, SIZE, SIZE))
    assert not {"batch_norm", "transpose"} & {node.op.name for node in graph.nodes}
    quantize(graph, {v.name: (-4.0, 4.0) for v in graph.values() if v.const is None}, io="int8")
    write(graph, tmp_path / "model.tflite", "int8")
    file = read_file(tmp_path / "model.tflite")
    assert file.float_tensors == ()
    assert "TRANSPOSE" not in {op.name for op in file.ops}


def test_csresnet50_keeps_the_convolutions_of_the_cfg_and_one_pad_for_its_narrow_shortcut() -> None:
    ops = Counter(node.op.name for node in simplified(build_model("csresnet50", SIZE), image(1, 3, SIZE, SIZE)).nodes)
    assert (ops["conv2d"], ops["add"], ops["concat"], ops["pad"], ops["max_pool2d"]) == (60, 13, 4, 1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["csresnet50", "csresnext50_elastic", "csdarknet53_panet_spp"])
def test_float_and_int8_files_compute_what_pytorch_and_the_interpreter_do(name: str) -> None:
    x = image(1, 3, SIZE, SIZE, low=0, high=1)
    model = build_model(name, SIZE)
    refit_batchnorm(model, [image(4, 3, SIZE, SIZE, low=0, high=1, seed=2)])
    check_float(model, x, least=100)
    assert check_int8(model, x, least=15).islands == {}
