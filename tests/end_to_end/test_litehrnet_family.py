"""Lite-HRNets of every kind through capture, simplify, int8 and the TFLite writer, small or at a small size."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from parity import check_float, check_int8, image, simplified, write
from torch import nn

from exporter.build import build_model, refit_batchnorm
from exporter.build.litehrnet import Config, HighResolutionModule, LiteHRNet, LiteHRNetSegmentation
from exporter.quantize import quantize
from exporter.verify.runtimes.litert_file import read_file

SIZE = (64, 96)
NAMES = ("litehrnet_30", "wider_naive_litehrnet_18", "litehrnet_18_segmentation")
SMALL = {
    "lite": (LiteHRNet, Config("lite", (1, 1, 1), 16)),
    "naive": (LiteHRNet, Config("naive", (1, 1, 1), 16)),
    "segmentation": (LiteHRNetSegmentation, Config("lite", (1, 1, 1), 16)),
}


def small(kind: str) -> nn.Module:
    torch.manual_seed(0)
    builder, config = SMALL[kind]
    model = builder(config, SIZE, 5).eval().requires_grad_(False)
    refit_batchnorm(model, [image(2, 3, *SIZE, low=-2, high=2, seed=3)])
    return model


class Several(nn.Module):
    """A fusion module with one argument a branch."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *xs: torch.Tensor) -> object:
        return self.module(list(xs))


@pytest.mark.parametrize("kind", SMALL)
def test_the_float_file_equals_pytorch(kind: str) -> None:
    assert "RESIZE_NEAREST_NEIGHBOR" not in check_float(small(kind), image(1, 3, *SIZE, low=-2, high=2), least=110).ops


@pytest.mark.parametrize("kind", SMALL)
def test_the_int8_file_computes_what_the_integer_interpreter_does(kind: str) -> None:
    result = check_int8(small(kind), image(1, 3, *SIZE, low=-2, high=2), least=15)
    assert not {"TRANSPOSE", "RELU", "AVERAGE_POOL_2D", "RESIZE_NEAREST_NEIGHBOR"} & set(result.ops)


def test_a_fusion_evaluates_its_doubled_terms_once_and_holds_the_factor_in_their_weights() -> None:
    """Of four branches: 4·3 terms, of one convolution from coarser branches and two a halving from finer ones."""
    torch.manual_seed(0)
    module = HighResolutionModule("naive", [4, 8, 16, 32]).eval()
    module.layers = nn.ModuleList(nn.Identity() for _ in range(4))
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.weight.data.uniform_(0.5, 1.5)
        norm.running_mean.normal_()
    xs = [image(1, 4 << i, 32 >> i, 32 >> i, seed=i) for i in range(4)]
    result = check_float(Several(module), *xs)
    ops = Counter(result.nodes)
    assert ops["conv2d"] == 6 + 2 * (1 + 2 + 3 + 1 + 2 + 1)
    assert ops["mul"] == 1  # 2 · x0
    assert ops["resize_nearest"] == 3 + 2 + 1


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_int8_file_of_a_published_variant_is_integer_throughout_and_needs_no_transpose(
    name: str, tmp_path: Path
) -> None:
    graph = simplified(build_model(name, SIZE), torch.zeros(1, 3, *SIZE))
    assert not {"batch_norm", "transpose", "reshape", "pad"} & {node.op.name for node in graph.nodes}
    quantize(graph, {v.name: (-4.0, 4.0) for v in graph.values() if v.const is None}, io="int8")
    write(graph, tmp_path / "model.tflite", "int8")
    file = read_file(tmp_path / "model.tflite")
    assert file.float_tensors == ()
    assert "TRANSPOSE" not in {op.name for op in file.ops}
