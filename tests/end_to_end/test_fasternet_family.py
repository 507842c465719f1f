"""FasterNets of every size through capture, simplify, int8 and the TFLite writer, at a size that is quick to run."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from parity import check_float, check_int8, image, simplified, write

from exporter.build import build_model
from exporter.build.fasternet import VARIANTS, FasterNet, PartialForm
from exporter.quantize import quantize
from exporter.verify.runtimes.litert_file import read_file

QUICK = ("fasternet_t0", "fasternet_t2_features")
SLOW = ("fasternet_t1", "fasternet_t2", "fasternet_s", "fasternet_m", "fasternet_l", "fasternet_t0_features")
SIZE = 64


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(n, marks=pytest.mark.slow) for n in SLOW)])
def test_an_int8_file_of_every_variant_is_integer_throughout_and_needs_no_transpose(name: str, tmp_path: Path) -> None:
    graph = simplified(build_model(name, SIZE), torch.zeros(1, 3, SIZE, SIZE))
    assert not {"batch_norm", "transpose", "pad", "relu"} & {node.op.name for node in graph.nodes}
    quantize(graph, {v.name: (-4.0, 4.0) for v in graph.values() if v.const is None}, io="int8")
    write(graph, tmp_path / "model.tflite", "int8")
    file = read_file(tmp_path / "model.tflite")
    assert file.float_tensors == ()
    assert "TRANSPOSE" not in {op.name for op in file.ops}


def small(form: PartialForm) -> torch.nn.Module:
    torch.manual_seed(0)
    return FasterNet(replace(VARIANTS[0].config, blocks=(1, 1, 1, 1), form=form), (SIZE, SIZE), 10).eval()


def test_t0_keeps_the_models_convolutions_and_one_copy_of_each_part_of_a_pconv() -> None:
    ops = Counter(
        node.op.name for node in simplified(build_model("fasternet_t0", 224), torch.zeros(1, 3, 224, 224)).nodes
    )
    assert ops == {"conv2d": 44, "slice": 26, "concat": 13, "gelu": 14, "add": 13, "mean": 1, "reshape": 1, "linear": 1}


def test_both_forms_of_pconv_become_the_same_ops_and_the_same_figures() -> None:
    x = image(1, 3, SIZE, SIZE)
    split, slicing = (check_float(small(form), x, least=110) for form in ("split_cat", "slicing"))
    assert Counter(slicing.nodes) == Counter(split.nodes)
    assert torch.equal(slicing.outputs[0], split.outputs[0])


def test_an_int8_fasternet_computes_what_the_integer_interpreter_does() -> None:
    assert check_int8(small("split_cat"), image(1, 3, SIZE, SIZE), least=25).ops.count("GELU") == 5
